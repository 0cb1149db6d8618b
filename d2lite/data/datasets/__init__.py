"""Readers of dataset formats, and the built-in datasets."""

from d2lite.data.datasets import builtin  # registers the names
from d2lite.data.datasets.coco import (
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from d2lite.data.datasets.coco_panoptic import (
    register_coco_panoptic,
    register_coco_panoptic_separated,
)
from d2lite.data.datasets.lvis import (
    get_lvis_instances_meta,
    load_lvis_json,
    register_lvis_instances,
)
from d2lite.data.datasets.pascal_voc import load_voc_instances, register_pascal_voc
from d2lite.data.datasets.uri import DatasetURI, parse_dataset_uri

__all__ = [
    "DatasetURI",
    "builtin",
    "convert_to_coco_json",
    "get_lvis_instances_meta",
    "load_coco_json",
    "load_lvis_json",
    "load_sem_seg",
    "load_voc_instances",
    "parse_dataset_uri",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
    "register_lvis_instances",
    "register_pascal_voc",
]
