"""Trackers: give the objects of a video the same number in every frame."""

from d2lite.tracking.base_tracker import (
    TRACKER_HEADS_REGISTRY,
    BaseTracker,
    build_tracker_head,
)
from d2lite.tracking.bbox_iou_tracker import BBoxIOUTracker
from d2lite.tracking.hungarian_tracker import BaseHungarianTracker
from d2lite.tracking.iou_weighted_hungarian_bbox_iou_tracker import (
    IOUWeightedHungarianBBoxIOUTracker,
)
from d2lite.tracking.utils import create_prediction_pairs
from d2lite.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = [
    "TRACKER_HEADS_REGISTRY",
    "BBoxIOUTracker",
    "BaseHungarianTracker",
    "BaseTracker",
    "IOUWeightedHungarianBBoxIOUTracker",
    "VanillaHungarianBBoxIOUTracker",
    "build_tracker_head",
    "create_prediction_pairs",
]
