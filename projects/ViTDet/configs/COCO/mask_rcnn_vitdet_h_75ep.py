"""Mask R-CNN on ViT-H, pre-trained by MAE; COCO."""

from ..common.parts import use_vit_huge
from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

use_vit_huge(model, train, optimizer, drop_path_rate=0.5)

train.max_iter = train.max_iter * 3 // 4
lr_multiplier.scheduler.milestones = [x * 3 // 4 for x in lr_multiplier.scheduler.milestones]
lr_multiplier.scheduler.num_updates = train.max_iter
