"""Cascade Mask R-CNN on MViTv2-L, pre-trained on ImageNet-21k; LVIS."""

from ..COCO.cascade_mask_rcnn_mvitv2_l_in21k_50ep import dataloader, model, optimizer, train
from ..common.parts import step_schedule, use_lvis

use_lvis(model, dataloader)

train.max_iter = 156250 // 2  # 50 epochs of 100000 images, 64 images a step
train.eval_period = 30000
lr_multiplier = step_schedule(train.max_iter, milestones=[138889 // 2, 150463 // 2])
