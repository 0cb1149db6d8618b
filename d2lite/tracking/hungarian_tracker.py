"""Trackers that match two frames at the least total cost."""

from typing import Any

import numpy as np

from d2lite.config import configurable
from d2lite.structures import Instances
from d2lite.tracking.frame_tracker import FrameTracker, Matches
from d2lite.tracking.utils import LARGE_COST_VALUE


class BaseHungarianTracker(FrameTracker):
    """Matches by the assignment of least total cost (Kuhn 1955). Subclasses define the costs."""

    @configurable
    def __init__(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        **kwargs: Any,
    ):
        """Arguments: see `FrameTracker`."""
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            **kwargs,
        )

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """The assignment of least cost, without pairs that cost LARGE_COST_VALUE or more."""
        cost = self.build_cost_matrix(instances, previous)
        index, prev_index = _linear_sum_assignment(cost)
        # The assignment is complete: it pairs leftovers at any price. Those are no matches.
        allowed = cost[index, prev_index] < LARGE_COST_VALUE
        return index[allowed].tolist(), prev_index[allowed].tolist()

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """(N, M) costs of matching N detections to M objects of the frame before."""
        raise NotImplementedError(f"{type(self).__name__} must define build_cost_matrix")


def _linear_sum_assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            "Hungarian trackers need scipy: pip install 'd2lite[tracking]'"
        ) from error
    return linear_sum_assignment(cost)
