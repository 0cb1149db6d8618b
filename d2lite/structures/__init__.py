"""Data structures of a detector: boxes, masks, keypoints, batches of images, objects per image."""

from d2lite.structures.boxes import (
    Boxes,
    BoxMode,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)
from d2lite.structures.image_list import ImageList
from d2lite.structures.instances import Instances
from d2lite.structures.keypoints import Keypoints, heatmaps_to_keypoints
from d2lite.structures.masks import BitMasks, PolygonMasks, ROIMasks, polygons_to_bitmask
from d2lite.structures.rotated_boxes import RotatedBoxes, pairwise_iou as pairwise_iou_rotated

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PolygonMasks",
    "ROIMasks",
    "RotatedBoxes",
    "heatmaps_to_keypoints",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_iou_rotated",
    "pairwise_point_box_distance",
    "polygons_to_bitmask",
]
