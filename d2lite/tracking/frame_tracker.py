"""Base class of all trackers here, which differ only in how they match two frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2lite.config import configurable
from d2lite.structures import Instances
from d2lite.tracking.base_tracker import BaseTracker

Matches = tuple[Sequence[int], Sequence[int]]

_SETTINGS = (
    "video_height",
    "video_width",
    "max_num_instances",
    "max_lost_frame_count",
    "min_box_rel_dim",
    "min_instance_period",
    "track_iou_threshold",
)


class FrameTracker(BaseTracker):
    """Base class of trackers that match the detections of a frame to the previous objects.

    Subclasses define `match`.
    """

    @configurable
    def __init__(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        *,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ):
        """Store the rules for matching objects and for keeping missing ones.

        Args:
            video_height, video_width: size of the frames in pixels.
            max_num_instances: maximum number of objects, beyond which missing ones are dropped.
            max_lost_frame_count: maximum number of consecutive frames an object may be missing.
            min_box_rel_dim: missing objects with a side shorter than this fraction of the frame's
                side are dropped.
            min_instance_period: missing objects seen in this many frames or fewer are dropped.
            track_iou_threshold: boxes below this IoU are never matched.
            kwargs: see `BaseTracker`.
        """
        super().__init__(**kwargs)
        self._video_height = video_height
        self._video_width = video_width
        self._max_num_instances = max_num_instances
        self._max_lost_frame_count = max_lost_frame_count
        self._min_box_rel_dim = min_box_rel_dim
        self._min_instance_period = min_instance_period
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Read the node TRACKER_HEADS, in which only the size of the video is required.

        Raises:
            ValueError: the size of the video is missing.
        """
        node = cfg.TRACKER_HEADS
        for key in ("VIDEO_HEIGHT", "VIDEO_WIDTH"):
            if key not in node:
                raise ValueError(
                    f"TRACKER_HEADS.{key} is missing: set it to the frames' size in pixels"
                )
        return {name: node[name.upper()] for name in _SETTINGS if name.upper() in node}

    def update(self, instances: Instances) -> Instances:
        """See `BaseTracker.update`; the ids of the first frame start at 0."""
        instances = self._initialize_extra_fields(instances)
        previous = self._prev_instances
        if previous is not None:
            matches: Matches = ([], [])
            if len(previous) and len(instances):
                matches = self.match(instances, previous)
            matched_idx, matched_prev_idx = (np.asarray(x, dtype=np.int64) for x in matches)
            instances = self._process_matched_idx(instances, matched_idx, matched_prev_idx)
            instances = self._process_unmatched_idx(instances, matched_idx)
            instances = self._process_unmatched_prev_idx(instances, matched_prev_idx)
        # A copy, because the caller may scale the returned boxes or edit the lists.
        self._prev_instances = instances[:]
        self._prev_instances.pred_boxes = instances.pred_boxes.clone()
        return instances

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """Return the indices of matched detections, and of their objects in the previous frame."""
        raise NotImplementedError(f"{type(self).__name__} must define match(instances, previous)")

    def _initialize_extra_fields(self, instances: Instances) -> Instances:
        """Add the lists `ID`, `ID_period` and `lost_frame_count`; fill them in a first frame."""
        for name in ("ID", "ID_period", "lost_frame_count"):
            if not instances.has(name):
                instances.set(name, [None] * len(instances))
        if self._prev_instances is None:
            instances.ID = [self._id_count + index for index in range(len(instances))]
            instances.ID_period = [1] * len(instances)
            instances.lost_frame_count = [0] * len(instances)
            self._id_count += len(instances)
        return instances

    def _process_matched_idx(
        self, instances: Instances, matched_idx: np.ndarray, matched_prev_idx: np.ndarray
    ) -> Instances:
        """Assign the ids of their objects to matched detections.

        Args:
            matched_idx: (P,) indices of detections.
            matched_prev_idx: (P,) indices of objects in the previous frame.
        """
        previous = self._prev_instances
        for index, prev_index in zip(matched_idx, matched_prev_idx, strict=True):
            instances.ID[index] = previous.ID[prev_index]
            instances.ID_period[index] = previous.ID_period[prev_index] + 1
            instances.lost_frame_count[index] = 0
        return instances

    def _process_unmatched_idx(self, instances: Instances, matched_idx: np.ndarray) -> Instances:
        """Assign new ids to all detections except the matched ones."""
        matched = {int(index) for index in matched_idx}
        for index in range(len(instances)):
            if index not in matched:
                instances.ID[index] = self._id_count
                instances.ID_period[index] = 1
                instances.lost_frame_count[index] = 0
                self._id_count += 1
        return instances

    def _process_unmatched_prev_idx(
        self, instances: Instances, matched_prev_idx: np.ndarray
    ) -> Instances:
        """Append the objects of the previous frame that are missing but still tracked.

        Args:
            matched_prev_idx: indices of the objects that were found in this frame.
        """
        previous = self._prev_instances
        matched = {int(index) for index in matched_prev_idx}
        boxes = previous.pred_boxes.tensor
        frame = boxes.new_tensor([self._video_width, self._video_height])
        large = ((boxes[:, 2:] - boxes[:, :2]) / frame >= self._min_box_rel_dim).all(dim=1)
        kept = [
            index
            for index, (is_large, missed, period) in enumerate(
                zip(large.tolist(), previous.lost_frame_count, previous.ID_period, strict=True)
            )
            if is_large
            and missed < self._max_lost_frame_count
            and period > self._min_instance_period
            and index not in matched
        ][: max(self._max_num_instances - len(instances), 0)]
        if not kept:
            return instances
        missing = previous[torch.tensor(kept, device=boxes.device)]
        missing.lost_frame_count = [count + 1 for count in missing.lost_frame_count]
        return Instances.cat([instances, missing])
