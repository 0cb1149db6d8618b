"""DetNet-59, its pyramid with levels of equal stride, and region heads that pool from it."""

from .backbone import DetNet, DilatedBottleneckBlock, build_detnet_backbone
from .config import add_detnet_config
from .pyramid import DetNetFPN, build_detnet_fpn_backbone
from .roi_heads import DetNetROIHeads

__all__ = [
    "DetNet",
    "DetNetFPN",
    "DetNetROIHeads",
    "DilatedBottleneckBlock",
    "add_detnet_config",
    "build_detnet_backbone",
    "build_detnet_fpn_backbone",
]
