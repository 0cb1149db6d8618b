"""Panoptic FPN: Mask R-CNN, and a semantic head on the same pyramid."""

from d2lite.config import LazyCall as L
from d2lite.layers import ShapeSpec
from d2lite.modeling import PanopticFPN
from d2lite.modeling.meta_arch.semantic_seg import SemSegFPNHead

from .mask_rcnn_fpn import model

model._target_ = PanopticFPN
model.sem_seg_head = L(SemSegFPNHead)(
    input_shape={
        name: L(ShapeSpec)(channels="${....backbone.out_channels}", stride=stride)
        for name, stride in {"p2": 4, "p3": 8, "p4": 16, "p5": 32}.items()
    },
    ignore_value=255,
    num_classes=54,  # COCO's 53 kinds of stuff, and one for all things
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
)
