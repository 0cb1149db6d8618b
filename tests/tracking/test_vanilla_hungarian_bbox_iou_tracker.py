"""Costs where all pairs that overlap enough are equally good."""

import pytest

from d2lite.tracking import VanillaHungarianBBoxIOUTracker
from d2lite.tracking.utils import LARGE_COST_VALUE
from tests.tracking.films import LEFT, RIGHT, frame, numbers_where_matches_compete


def test_two_matches_are_better_than_one():
    assert numbers_where_matches_compete("VanillaHungarianBBoxIOUTracker") == [1, 0]


# LEFT and its half share 200 of 400 square pixels.
@pytest.mark.parametrize("threshold, half", [(0.5, -1), (0.51, LARGE_COST_VALUE)])
def test_costs_depend_on_the_threshold_only(threshold, half):
    tracker = VanillaHungarianBBoxIOUTracker(100, 100, track_iou_threshold=threshold)
    previous = frame(LEFT, RIGHT)
    previous.ID, previous.ID_period = [0, 1], [1, 1]
    cost = tracker.build_cost_matrix(frame(LEFT, [0, 0, 10, 20]), previous)
    assert cost.tolist() == [[-1, LARGE_COST_VALUE], [half, LARGE_COST_VALUE]]
