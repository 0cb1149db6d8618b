"""Mask R-CNN on ViT-H, pre-trained by MAE; LVIS."""

from ..common.parts import use_vit_huge
from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

use_vit_huge(model, train, optimizer, drop_path_rate=0.4)
optimizer.lr = 1e-4
