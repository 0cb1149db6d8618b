"""Cascade Mask R-CNN on ViT-B, pre-trained by MAE; LVIS."""

from ..COCO.cascade_mask_rcnn_vitdet_b_100ep import dataloader, model, optimizer, train
from ..common.parts import step_schedule, use_lvis

use_lvis(model, dataloader)

train.max_iter = 156250  # 100 epochs of 100000 images, 64 images a step
train.eval_period = 30000
lr_multiplier = step_schedule(train.max_iter, milestones=[138889, 150463])
optimizer.lr = 2e-4
