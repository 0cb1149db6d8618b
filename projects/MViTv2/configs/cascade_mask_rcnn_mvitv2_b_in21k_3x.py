"""Cascade Mask R-CNN on MViTv2-B, pre-trained on ImageNet-21k; COCO."""

from .cascade_mask_rcnn_mvitv2_b_3x import dataloader, lr_multiplier, model, optimizer, train
from .common.parts import weights

train.init_checkpoint = weights("B", "in21k")
