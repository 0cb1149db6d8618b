"""Trackers that match two frames at the least total cost."""

import numpy as np

from d2lite.structures import Instances
from d2lite.tracking.frame_tracker import FrameTracker, Matches
from d2lite.tracking.utils import LARGE_COST_VALUE


class BaseHungarianTracker(FrameTracker):
    """Matches by the assignment of least total cost (Kuhn 1955). Subclasses define the costs."""

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """Return the assignment of least cost, without pairs that cost LARGE_COST_VALUE or more."""
        try:
            from scipy.optimize import linear_sum_assignment
        except ImportError as error:
            raise ImportError(
                "Hungarian trackers need scipy: pip install 'd2lite[tracking]'"
            ) from error
        cost = self.build_cost_matrix(instances, previous)
        index, prev_index = linear_sum_assignment(cost)
        # The assignment is complete: it pairs leftovers at any price. Those are no matches.
        allowed = cost[index, prev_index] < LARGE_COST_VALUE
        return index[allowed], prev_index[allowed]

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """(N, M) costs of matching N detections to M objects of the frame before."""
        raise NotImplementedError(f"{type(self).__name__} must define build_cost_matrix")
