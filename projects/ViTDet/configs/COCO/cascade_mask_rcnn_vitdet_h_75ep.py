"""Cascade Mask R-CNN on ViT-H, pre-trained by MAE; COCO."""

from .cascade_mask_rcnn_vitdet_b_100ep import model
from .mask_rcnn_vitdet_h_75ep import (
    dataloader,
    lr_multiplier,
    model as _mask_rcnn,
    optimizer,
    train,
)

model.backbone = _mask_rcnn.backbone
