"""A Hungarian tracker to which a pair is the better the more it overlaps."""

from typing import Any

import numpy as np

from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Matches boxes of sufficient IoU so that the sum of IoU is the highest."""

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Set the cost of the given pairs to their negative IoU, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -pair["IoU"]
        return cost_matrix
