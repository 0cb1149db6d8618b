"""Mask R-CNN on MViTv2-T; COCO."""

from .common.coco_loader import dataloader
from .common.parts import new_optimizer, new_train, on_mvitv2_t, step_schedule

model = on_mvitv2_t("common/models/mask_rcnn_fpn.py")
dataloader.train.total_batch_size = 64
train = new_train()
lr_multiplier = step_schedule([52500, 62500, train.max_iter])
optimizer = new_optimizer()
