"""Training targets: classes, centers and offsets from segments."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch


class PanopticDeepLabTargetGenerator:
    """Generator of targets from a panoptic segmentation (Cheng et al. 2020, sec. 3.2)."""

    def __init__(
        self,
        ignore_label: int,
        thing_ids: Collection[int],
        sigma: int = 8,
        ignore_stuff_in_offset: bool = False,
        small_instance_area: int = 0,
        small_instance_weight: float = 1,
        ignore_crowd_in_semantic: bool = False,
    ):
        """
        Args:
            ignore_label: semantic label of pixels without a segment.
            thing_ids: contiguous category ids of things.
            sigma: standard deviation in pixels of the peak at a center.
            ignore_stuff_in_offset: give stuff the offset weight 0.
            small_instance_area: things of fewer pixels are small.
            small_instance_weight: semantic weight of small things; everything else has 1.
            ignore_crowd_in_semantic: leave crowds unlabeled.
        """
        self.ignore_label = ignore_label
        self.thing_ids = set(thing_ids)
        self.sigma = sigma
        self.ignore_stuff_in_offset = ignore_stuff_in_offset
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic
        # The peak is cut off at a little over three standard deviations.
        from_center = np.arange(-self._radius, self._radius + 1, dtype=float)
        squares = from_center**2 + from_center[:, None] ** 2
        self.g = np.exp(-squares / (2 * sigma**2))

    @property
    def _radius(self) -> int:
        return 3 * self.sigma + 1

    def __call__(
        self, panoptic: np.ndarray, segments_info: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the targets of one image.

        Args:
            panoptic: (H, W) segment ids.
            segments_info: dicts with "id", "category_id" (contiguous) and "iscrowd". Pixels whose
                id is not among them are ignored.

        Returns:
            * "sem_seg": (H, W) int64 class labels.
            * "sem_seg_weights": (H, W) float32.
            * "center": (H, W) float32, 1 at the centers of mass of things, decaying to 0.
            * "center_points": [y, x] of each center.
            * "center_weights": (1, H, W) float32, 0 for crowds and ignored pixels, else 1.
            * "offset": (2, H, W) float32, from each pixel of a thing to its center, y and x.
            * "offset_weights": (1, H, W) float32, as the center's; optionally 0 for stuff.
        """
        size = panoptic.shape
        semantic = np.full(size, self.ignore_label, dtype=np.int64)
        semantic_weights = np.ones(size, dtype=np.float32)
        center = np.zeros(size, dtype=np.float32)
        center_points: list[list[float]] = []
        center_weights = np.zeros((1, *size), dtype=np.float32)
        offset = np.zeros((2, *size), dtype=np.float32)
        offset_weights = np.zeros((1, *size), dtype=np.float32)
        for segment in segments_info:
            category, is_crowd = segment["category_id"], bool(segment["iscrowd"])
            is_thing = category in self.thing_ids
            y, x = where = np.nonzero(panoptic == segment["id"])
            if len(y) == 0:  # cropped away
                continue
            if not (is_crowd and self.ignore_crowd_in_semantic):
                semantic[where] = category
            if not is_crowd:
                center_weights[0][where] = 1
                if is_thing or not self.ignore_stuff_in_offset:
                    offset_weights[0][where] = 1
            if is_thing:
                if len(y) < self.small_instance_area:
                    semantic_weights[where] = self.small_instance_weight
                center_y, center_x = float(np.mean(y)), float(np.mean(x))
                center_points.append([center_y, center_x])
                self._mark_center(center, round(center_y), round(center_x))
                offset[0][where] = center_y - y
                offset[1][where] = center_x - x
        arrays = {
            "sem_seg": semantic,
            "sem_seg_weights": semantic_weights,
            "center": center,
            "center_weights": center_weights,
            "offset": offset,
            "offset_weights": offset_weights,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {**tensors, "center_points": center_points}

    def _mark_center(self, center: np.ndarray, y: int, x: int) -> None:
        """Add a peak at (y, x); if peaks overlap, the larger value counts."""
        height, width = center.shape
        radius = self._radius
        top, left = max(y - radius, 0), max(x - radius, 0)
        bottom, right = min(y + radius + 1, height), min(x + radius + 1, width)
        y0, x0 = y - radius, x - radius  # of the peak's array in the image
        peak = self.g[top - y0 : bottom - y0, left - x0 : right - x0]
        part = center[top:bottom, left:right]
        np.maximum(part, peak, out=part, casting="same_kind")
