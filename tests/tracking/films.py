"""Frames of videos made by hand."""

import torch

from d2lite.structures import Boxes, Instances
from d2lite.tracking import TRACKER_HEADS_REGISTRY

TRACKERS = [
    "BBoxIOUTracker",
    "VanillaHungarianBBoxIOUTracker",
    "IOUWeightedHungarianBBoxIOUTracker",
]
LEFT, RIGHT, FAR = [0, 0, 20, 20], [60, 60, 80, 80], [20, 60, 40, 80]


def frame(*boxes) -> Instances:
    return Instances(
        (100, 100),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.full((len(boxes),), 0.9),
        pred_masks=torch.ones(len(boxes), 4, 4, dtype=torch.bool),
    )


def shifted(box, by):
    return [value + by for value in box]


def numbers_where_matches_compete(name: str) -> list[int]:
    """Return the numbers that a tracker gives to two detections that overlap the same object.

    IoU: detection 0 with old 0: 0.9, with old 1: 0.8; detection 1 with old 0: 0.82.
    """
    tracker = TRACKER_HEADS_REGISTRY.get(name)(
        video_height=100, video_width=100, track_iou_threshold=0.7
    )
    tracker.update(frame([0, 0, 100, 100], [20, 0, 100, 100]))
    return list(tracker.update(frame([10, 0, 100, 100], [0, 0, 82, 100])).ID)
