"""A Hungarian tracker that treats all pairs with enough overlap equally."""

from typing import Any

import numpy as np

from d2lite.structures import Instances, pairwise_iou
from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.hungarian_tracker import BaseHungarianTracker
from d2lite.tracking.utils import LARGE_COST_VALUE, create_prediction_pairs


@TRACKER_HEADS_REGISTRY.register()
class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """Tracker that matches as many boxes of sufficient IoU as possible."""

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the (N, M) costs; LARGE_COST_VALUE for boxes with an IoU below the threshold."""
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
