"""A greedy tracker, which matches the boxes of two frames that overlap most."""

from typing import Any

import numpy as np
from torch import Tensor

from d2lite.structures import Instances, pairwise_iou
from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.frame_tracker import FrameTracker, Matches
from d2lite.tracking.utils import create_prediction_pairs


@TRACKER_HEADS_REGISTRY.register()
class BBoxIOUTracker(FrameTracker):
    """Tracker that matches boxes in order of descending IoU, each at most once."""

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """Return the pairs of highest IoU, chosen greedily; ties go to the lowest indices."""
        iou = pairwise_iou(instances.pred_boxes, previous.pred_boxes)
        matched: dict[int, int] = {}
        taken: set[int] = set()
        for pair in self._create_prediction_pairs(instances, iou):
            is_free = pair["idx"] not in matched and pair["prev_idx"] not in taken
            if is_free and pair["IoU"] >= self._track_iou_threshold:
                matched[pair["idx"]] = pair["prev_idx"]
                taken.add(pair["prev_idx"])
        return list(matched), list(matched.values())

    def _create_prediction_pairs(
        self, instances: Instances, iou_all: Tensor
    ) -> list[dict[str, Any]]:
        """Return the pairs that may match, see `create_prediction_pairs`, by descending IoU."""
        pairs = create_prediction_pairs(
            instances, self._prev_instances, iou_all, self._track_iou_threshold
        )
        return sorted(pairs, key=lambda pair: -pair["IoU"])

    def _process_unmatched_idx(self, instances: Instances, matched_idx: np.ndarray) -> Instances:
        self._matched_idx = set(matched_idx.tolist())
        return self._assign_new_id(instances)

    def _process_unmatched_prev_idx(
        self, instances: Instances, matched_prev_idx: np.ndarray
    ) -> Instances:
        every = range(len(self._prev_instances))
        self._untracked_prev_idx = set(every).difference(matched_prev_idx.tolist())
        return self._merge_untracked_instances(instances)

    def _assign_new_id(self, instances: Instances) -> Instances:
        """Assign new ids to all detections except those in `_matched_idx`."""
        return super()._process_unmatched_idx(instances, np.array(sorted(self._matched_idx)))

    def _merge_untracked_instances(self, instances: Instances) -> Instances:
        """Append the objects in `_untracked_prev_idx` that are still tracked."""
        every = set(range(len(self._prev_instances)))
        seen = np.array(sorted(every - self._untracked_prev_idx))
        return super()._process_unmatched_prev_idx(instances, seen)
