"""A Hungarian tracker to which all pairs that overlap enough are equally good."""

from typing import Any

import numpy as np

from d2lite.config import configurable
from d2lite.structures import Instances, pairwise_iou
from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.frame_tracker import tracker_settings
from d2lite.tracking.hungarian_tracker import BaseHungarianTracker
from d2lite.tracking.utils import LARGE_COST_VALUE, create_prediction_pairs


@TRACKER_HEADS_REGISTRY.register()
class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """Matches as many boxes of sufficient IoU as possible."""

    @configurable
    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ):
        """track_iou_threshold: boxes below this IoU are never matched. Others: `FrameTracker`."""
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            **kwargs,
        )
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg) -> dict:
        return tracker_settings(cfg, track_iou_threshold=0.5)

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """(N, M) costs; LARGE_COST_VALUE for boxes whose IoU is below the threshold."""
        iou = pairwise_iou(instances.pred_boxes, prev_instances.pred_boxes)
        pairs = create_prediction_pairs(
            instances, prev_instances, iou, threshold=self._track_iou_threshold
        )
        cost = np.full(iou.shape, LARGE_COST_VALUE, dtype=np.float64)
        return self.assign_cost_matrix_values(cost, pairs)

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Set the cost of the given pairs (see `create_prediction_pairs`), here to -1, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1
        return cost_matrix
