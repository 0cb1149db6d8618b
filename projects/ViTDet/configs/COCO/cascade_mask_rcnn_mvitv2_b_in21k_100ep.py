"""Cascade Mask R-CNN on MViTv2-B, pre-trained on ImageNet-21k; COCO."""

from functools import partial

from torch import nn

from d2lite import model_zoo
from d2lite.config import LazyCall as L
from d2lite.modeling import MViT

from ..common.coco_loader_lsj import dataloader
from ..common.parts import new_train, step_schedule

model = model_zoo.get_config("common/models/cascade_rcnn.py").model
_constants = model_zoo.get_config("common/data/constants.py").constants
model.pixel_mean = _constants.imagenet_rgb256_mean
model.pixel_std = _constants.imagenet_rgb256_std
model.input_format = "RGB"
model.backbone.bottom_up = L(MViT)(
    embed_dim=96,
    depth=24,
    num_heads=1,
    last_block_indexes=(1, 4, 20, 23),
    residual_pooling=True,
    drop_path_rate=0.4,
    norm_layer=partial(nn.LayerNorm, eps=1e-6),
    out_features=("scale2", "scale3", "scale4", "scale5"),
)
model.backbone.in_features = "${.bottom_up.out_features}"
model.backbone.square_pad = 1024
model.backbone.norm = "LN"

model.proposal_generator.head.conv_dims = [-1, -1]  # two convolutions of as many channels
model.roi_heads.mask_head.conv_norm = "LN"
for _box_head in model.roi_heads.box_heads:
    _box_head.conv_norm = "LN"
    _box_head.conv_dims = [256, 256, 256, 256]
    _box_head.fc_dims = [1024]

train = new_train("detectron2://ImageNetPretrained/mvitv2/MViTv2_B_in21k.pyth")
train.max_iter = 184375  # 100 epochs of 118000 images, 64 images a step
lr_multiplier = step_schedule(train.max_iter, milestones=[163889, 177546])

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = 8e-5
optimizer.params.overrides = {
    name: {"weight_decay": 0.0} for name in ("pos_embed", "rel_pos_h", "rel_pos_w")
}
