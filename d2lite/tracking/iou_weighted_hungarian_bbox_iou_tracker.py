"""A Hungarian tracker that prefers pairs with more overlap."""

from typing import Any

import numpy as np

from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Tracker that matches boxes of sufficient IoU with the maximum sum of IoU."""

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Set the cost of the given pairs to their negative IoU, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -pair["IoU"]
        return cost_matrix
