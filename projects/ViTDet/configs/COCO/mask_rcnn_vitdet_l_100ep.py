"""Mask R-CNN on ViT-L, pre-trained by MAE; COCO."""

from ..common.parts import use_vit_large
from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

use_vit_large(model, train, optimizer)
