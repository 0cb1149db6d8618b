"""YOLOv3 and Darknet-53 (Redmon and Farhadi 2018)."""

from d2lite.checkpoint import READERS

from .augmentation import HSVJitter, RandomPlacement, yolov3_augmentation
from .boxes import Grid, assign_objects, decode, encode, iou_of_sizes, make_grid
from .config import add_yolov3_config
from .darknet import Darknet, build_darknet_backbone
from .darknet_weights import (
    DarknetFile,
    accept_darknet_files,
    read_darknet_checkpoint,
    read_darknet_file,
)
from .head import YOLOv3Head
from .letterbox import Letterbox, fit_letterbox, letterbox
from .losses import ignored_predictions, yolov3_losses
from .model import YOLOv3

__all__ = [
    "Darknet",
    "DarknetFile",
    "Grid",
    "HSVJitter",
    "Letterbox",
    "RandomPlacement",
    "YOLOv3",
    "YOLOv3Head",
    "accept_darknet_files",
    "add_yolov3_config",
    "assign_objects",
    "build_darknet_backbone",
    "decode",
    "encode",
    "fit_letterbox",
    "ignored_predictions",
    "iou_of_sizes",
    "letterbox",
    "make_grid",
    "read_darknet_checkpoint",
    "read_darknet_file",
    "yolov3_augmentation",
    "yolov3_losses",
]

# yolov3.weights, and pretrained layers to start training from, such as darknet53.conv.74.
READERS[".weights"] = READERS[".conv.74"] = read_darknet_checkpoint
