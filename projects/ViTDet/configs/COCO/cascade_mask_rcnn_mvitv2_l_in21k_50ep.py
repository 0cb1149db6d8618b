"""Cascade Mask R-CNN on MViTv2-L, pre-trained on ImageNet-21k; COCO."""

from ..common.parts import step_schedule
from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import dataloader, model, optimizer, train

_net = model.backbone.bottom_up
_net.embed_dim, _net.depth, _net.num_heads = 144, 48, 2
_net.last_block_indexes = (1, 7, 43, 47)
_net.drop_path_rate = 0.5

train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_L_in21k.pyth"
train.max_iter = train.max_iter // 2
lr_multiplier = step_schedule(train.max_iter, milestones=[163889 // 2, 177546 // 2])
optimizer.lr = 4e-5
