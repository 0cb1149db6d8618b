"""Cascade Mask R-CNN on MViTv2-H, pre-trained on ImageNet-21k; COCO with large-scale jitter."""

from .cascade_mask_rcnn_mvitv2_b_3x import lr_multiplier, model, optimizer, train
from .common.coco_loader_lsj import dataloader
from .common.parts import weights

_net = model.backbone.bottom_up
_net.embed_dim, _net.depth, _net.num_heads = 192, 80, 3
_net.last_block_indexes = (3, 11, 71, 79)
_net.drop_path_rate = 0.6
_net.use_act_checkpoint = True

train.init_checkpoint = weights("H", "in21k")
train.eval_period = 5000
