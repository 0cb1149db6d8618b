"""Readers of data set formats, and the data sets that are known by name."""

from . import builtin as _builtin  # registers the names
from .coco import convert_to_coco_json, load_coco_json, load_sem_seg, register_coco_instances

__all__ = [
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]
