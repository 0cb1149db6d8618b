"""Cascade Mask R-CNN on MViTv2-B; COCO."""

from .cascade_mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, model, optimizer, train
from .common.parts import weights

model.backbone.bottom_up.depth = 24
model.backbone.bottom_up.last_block_indexes = (1, 4, 20, 23)
model.backbone.bottom_up.drop_path_rate = 0.4
train.init_checkpoint = weights("B", "in1k")
