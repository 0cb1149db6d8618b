"""Mask R-CNN from scratch, with large-scale jitter and synchronized BatchNorm everywhere."""

from fvcore.common.param_scheduler import MultiStepParamScheduler

import d2lite.data.transforms as T
from d2lite.config import LazyCall as L
from d2lite.solver import WarmupParamScheduler

from ..common.data.coco import dataloader
from ..common.models.mask_rcnn_fpn import model
from ..common.optim import SGD as optimizer
from ..common.train import train

_IMAGE_SIZE = 1024

train.amp.enabled = True
train.ddp.fp16_compression = True
train.max_iter = 184375  # 100 epochs of 64 images a step

model.backbone.bottom_up.freeze_at = 0
for _part in (model.backbone.bottom_up.stem, model.backbone.bottom_up.stages, model.backbone):
    _part.norm = "SyncBN"
# Ranks have different numbers of regions, and maybe none: the mean over all of them is weighted.
model.roi_heads.box_head.conv_norm = model.roi_heads.mask_head.conv_norm = "naiveSyncBN_N"

model.proposal_generator.head.conv_dims = [-1, -1]  # two convolutions of as many channels
model.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
model.roi_heads.box_head.fc_dims = [1024]

dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(
        min_scale=0.1, max_scale=2.0, target_height=_IMAGE_SIZE, target_width=_IMAGE_SIZE
    ),
    L(T.FixedSizeCrop)(crop_size=(_IMAGE_SIZE, _IMAGE_SIZE)),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.mapper.recompute_boxes = True  # of the parts that cropping leaves
dataloader.train.total_batch_size = 64

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01],
        milestones=[163889, 177546],
        num_updates=train.max_iter,
    ),
    warmup_length=500 / train.max_iter,
    warmup_factor=0.067,
)
optimizer.lr = 0.1
optimizer.weight_decay = 4e-5
