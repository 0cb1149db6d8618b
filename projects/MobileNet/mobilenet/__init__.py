"""MobileNetV2 and V3 backbones, torchvision's Faster R-CNN on them, and `csv:` datasets."""

from .anchors import TorchvisionAnchorGenerator
from .backbone import MobileNet, build_mobilenet_backbone, build_mobilenet_fpn_backbone
from .config import add_mobilenet_config
from .csv_dataset import load_csv_boxes, resolve_csv
from .torchvision_rcnn import convert_faster_rcnn

__all__ = [
    "MobileNet",
    "TorchvisionAnchorGenerator",
    "add_mobilenet_config",
    "build_mobilenet_backbone",
    "build_mobilenet_fpn_backbone",
    "convert_faster_rcnn",
    "load_csv_boxes",
    "resolve_csv",
]
