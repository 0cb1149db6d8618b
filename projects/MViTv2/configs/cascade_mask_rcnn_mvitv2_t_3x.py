"""Cascade Mask R-CNN on MViTv2-T; COCO."""

from .common.parts import on_mvitv2_t
from .mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, optimizer, train

model = on_mvitv2_t("common/models/cascade_rcnn.py")
model.proposal_generator.head.conv_dims = [-1, -1]  # two convolutions of as many channels
# Ranks have different numbers of regions, and maybe none: the mean over all of them is weighted.
for _head in model.roi_heads.box_heads:
    _head.conv_dims, _head.fc_dims = [256, 256, 256, 256], [1024]
    _head.conv_norm = "naiveSyncBN_N"
model.roi_heads.mask_head.conv_norm = "naiveSyncBN_N"
