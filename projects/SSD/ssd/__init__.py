"""SSD300, SSD512 and SSDLite, and VGG-16 as a backbone."""

from .augmentation import ssd_augmentation
from .config import add_ssd_config
from .default_boxes import DefaultBoxGenerator
from .head import SSDHead, SSDLiteHead
from .losses import match_default_boxes, multibox_loss
from .model import SSD
from .ssd_backbones import SSDVGG, SSDMobileNet
from .vgg import VGG16, VGGBoxHead
from .weights import convert_mobilenet, convert_ssd, convert_vgg16

__all__ = [
    "SSD",
    "SSDVGG",
    "VGG16",
    "DefaultBoxGenerator",
    "SSDHead",
    "SSDLiteHead",
    "SSDMobileNet",
    "VGGBoxHead",
    "add_ssd_config",
    "convert_mobilenet",
    "convert_ssd",
    "convert_vgg16",
    "match_default_boxes",
    "multibox_loss",
    "ssd_augmentation",
]
