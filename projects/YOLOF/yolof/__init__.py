"""YOLOF: one level of features, a dilated encoder and uniform matching."""

from .augmentation import RandomShift, resize_shift_and_flip
from .box_coder import ClampedBox2BoxTransform
from .config import add_yolof_config
from .head import Decoder, DilatedEncoder
from .matching import UniformMatch, uniform_match
from .model import YOLOF

__all__ = [
    "YOLOF",
    "ClampedBox2BoxTransform",
    "Decoder",
    "DilatedEncoder",
    "RandomShift",
    "UniformMatch",
    "add_yolof_config",
    "resize_shift_and_flip",
    "uniform_match",
]
