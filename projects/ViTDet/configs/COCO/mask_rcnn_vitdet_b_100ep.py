"""Mask R-CNN on ViT-B, pre-trained by MAE; COCO."""

from functools import partial

from d2lite import model_zoo
from d2lite.modeling.backbone.vit import get_vit_lr_decay_rate

from ..common.coco_loader_lsj import dataloader
from ..common.parts import new_train, step_schedule

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model

train = new_train(
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
)
train.max_iter = 184375  # 100 epochs of 118000 images, 64 images a step
lr_multiplier = step_schedule(train.max_iter, milestones=[163889, 177546])

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, num_layers=12, lr_decay_rate=0.7)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
