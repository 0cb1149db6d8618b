"""Cascade Mask R-CNN on MViTv2-S; COCO."""

from .cascade_mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, model, optimizer, train
from .common.parts import weights

model.backbone.bottom_up.depth = 16
model.backbone.bottom_up.last_block_indexes = (0, 2, 13, 15)
train.init_checkpoint = weights("S", "in1k")
