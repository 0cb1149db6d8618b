"""Trackers that match two frames with minimum total cost."""

import numpy as np

from d2lite.structures import Instances
from d2lite.tracking.frame_tracker import FrameTracker, Matches
from d2lite.tracking.utils import LARGE_COST_VALUE
from d2lite.utils.extras import import_extra


class BaseHungarianTracker(FrameTracker):
    """Base class of trackers with an assignment of minimum total cost (Kuhn 1955).

    Subclasses define the costs.
    """

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """Return the assignment of minimum cost, without costs of LARGE_COST_VALUE or more."""
        optimize = import_extra("scipy.optimize", "tracking", "a Hungarian tracker")
        cost = self.build_cost_matrix(instances, previous)
        index, prev_index = optimize.linear_sum_assignment(cost)
        # The assignment is complete: it pairs leftovers at any cost. These are not matches.
        allowed = cost[index, prev_index] < LARGE_COST_VALUE
        return index[allowed], prev_index[allowed]

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the (N, M) costs of matching N detections with M objects of the previous frame."""
        raise NotImplementedError(f"{type(self).__name__} must define build_cost_matrix")
