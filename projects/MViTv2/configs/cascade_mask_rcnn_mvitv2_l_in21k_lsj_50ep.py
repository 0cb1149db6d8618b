"""Cascade Mask R-CNN on MViTv2-L, pre-trained on ImageNet-21k; COCO with large-scale jitter."""

from .cascade_mask_rcnn_mvitv2_b_3x import model, optimizer, train
from .common.coco_loader_lsj import dataloader
from .common.parts import step_schedule, weights

_net = model.backbone.bottom_up
_net.embed_dim, _net.depth, _net.num_heads = 144, 48, 2
_net.last_block_indexes = (1, 7, 43, 47)
_net.drop_path_rate = 0.5

train.init_checkpoint = weights("L", "in21k")
train.max_iter = 184375 // 2  # 50 epochs of 118000 images, 64 images a step
lr_multiplier = step_schedule([163889 // 2, 177546 // 2, train.max_iter])
optimizer.lr = 1e-4
