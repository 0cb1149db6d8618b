"""Private parts of detectron2's visualizers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from d2lite.utils.panoptic_segments import PanopticSegments

_SMALL_OBJECT_AREA_THRESH = 1000  # square pixels; labels of smaller objects stand outside of them
_LARGE_MASK_AREA_THRESH = 120000
_BLACK = (0, 0, 0)
_RED = (1.0, 0, 0)
_KEYPOINT_THRESHOLD = 0.05


class _PanopticPrediction(PanopticSegments):
    """The segments of a panoptic segmentation, with masks of bool."""

    def _masks(self, isthing: bool) -> Iterator[tuple[np.ndarray, dict]]:
        for mask, info in super()._masks(isthing):
            yield mask.astype(bool), info


class _DetectedInstance:
    """An object that a video visualizer remembers from frame to frame.

    Attributes:
        label: its class.
        bbox: (4,) XYXY, or None.
        mask_rle: mask as COCO's RLE, or None.
        color: RGB in [0, 1], or None until it is decided.
        ttl: for how many more frames it is remembered unseen.
    """

    __slots__ = ["bbox", "color", "label", "mask_rle", "ttl"]

    def __init__(self, label: int, bbox: Any, mask_rle: Any, color: Any, ttl: int):
        self.label = label
        self.bbox = bbox
        self.mask_rle = mask_rle
        self.color = color
        self.ttl = ttl
