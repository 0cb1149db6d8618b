"""Cascade Mask R-CNN on MViTv2-H, pre-trained on ImageNet-21k; COCO."""

from ..common.parts import step_schedule
from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import dataloader, model, optimizer, train

_net = model.backbone.bottom_up
_net.embed_dim, _net.depth, _net.num_heads = 192, 80, 3
_net.last_block_indexes = (3, 11, 71, 79)
_net.drop_path_rate = 0.6
_net.use_act_checkpoint = True

train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_H_in21k.pyth"
train.max_iter = train.max_iter * 36 // 100
lr_multiplier = step_schedule(train.max_iter, milestones=[163889 * 36 // 100, 177546 * 36 // 100])
optimizer.lr = 2e-5
