"""Cascade Mask R-CNN on Swin-B, pre-trained on ImageNet-21k; COCO."""

from d2lite import model_zoo
from d2lite.config import LazyCall as L
from d2lite.modeling import SwinTransformer

from ..common.coco_loader_lsj import dataloader
from ..common.parts import new_train, step_schedule
from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import model

model.backbone.bottom_up = L(SwinTransformer)(
    depths=[2, 2, 18, 2],
    drop_path_rate=0.4,
    embed_dim=128,
    num_heads=[4, 8, 16, 32],
)
model.backbone.in_features = ("p0", "p1", "p2", "p3")

train = new_train("detectron2://ImageNetPretrained/swin/swin_base_patch4_window7_224_22k.pth")
train.max_iter = 184375 // 2  # 50 epochs of 118000 images, 64 images a step
lr_multiplier = step_schedule(train.max_iter, milestones=[163889 // 2, 177546 // 2])

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = 4e-5
optimizer.weight_decay = 0.05
optimizer.params.overrides = {"relative_position_bias_table": {"weight_decay": 0.0}}
