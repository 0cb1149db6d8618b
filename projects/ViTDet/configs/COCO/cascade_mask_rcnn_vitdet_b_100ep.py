"""Cascade Mask R-CNN on ViT-B, pre-trained by MAE; COCO."""

from d2lite import model_zoo

from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

_cascade = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
for _box_head in _cascade.box_heads:
    _box_head.conv_norm = "LN"
    _box_head.conv_dims = [256, 256, 256, 256]
    _box_head.fc_dims = [1024]
_cascade.mask_head = model.roi_heads.mask_head
model.roi_heads = _cascade
