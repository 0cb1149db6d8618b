"""Cascade Mask R-CNN on MViTv2-T; COCO."""

from .common.parts import on_mvitv2_t
from .mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, optimizer, train

model = on_mvitv2_t("common/models/cascade_rcnn.py")
