"""Matches by the least total cost."""

import sys

import numpy as np
import pytest

from d2lite.tracking import TRACKER_HEADS_REGISTRY, BaseHungarianTracker
from d2lite.tracking.utils import LARGE_COST_VALUE
from tests.tracking.films import FAR, LEFT, RIGHT, frame


def test_a_hungarian_tracker_may_define_its_own_costs():
    class ByHeight(BaseHungarianTracker):
        def build_cost_matrix(self, instances, prev_instances):
            top = instances.pred_boxes.tensor[:, 1, None]
            cost = (top - prev_instances.pred_boxes.tensor[:, 1]).abs().numpy()
            return np.where(cost > 30, LARGE_COST_VALUE, cost)

    tracker = ByHeight(100, 100)
    tracker.update(frame(LEFT, RIGHT))
    assert tracker.update(frame(FAR)).ID == [1]  # at the height of RIGHT


def test_a_hungarian_tracker_must_define_its_costs():
    with pytest.raises(NotImplementedError, match="must define build_cost_matrix"):
        BaseHungarianTracker(100, 100).build_cost_matrix(frame(), frame())


def test_without_scipy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    tracker = TRACKER_HEADS_REGISTRY.get("VanillaHungarianBBoxIOUTracker")(
        video_height=100, video_width=100
    )
    tracker.update(frame(LEFT))
    with pytest.raises(ImportError, match=r"d2lite\[tracking\]"):
        tracker.update(frame(LEFT))
