"""Costs where a pair is better the more it overlaps."""

from d2lite.tracking import IOUWeightedHungarianBBoxIOUTracker
from d2lite.tracking.utils import LARGE_COST_VALUE
from tests.tracking.films import LEFT, RIGHT, frame, numbers_where_matches_compete


def test_the_greatest_sum_of_overlaps_wins():
    # 0.8 + 0.82 is more than 0.9.
    assert numbers_where_matches_compete("IOUWeightedHungarianBBoxIOUTracker") == [1, 0]


def test_costs_are_negative_overlaps():
    tracker = IOUWeightedHungarianBBoxIOUTracker(100, 100)
    previous = frame(LEFT, RIGHT)
    previous.ID, previous.ID_period = [0, 1], [1, 1]
    cost = tracker.build_cost_matrix(frame(LEFT, [0, 0, 10, 20]), previous)  # the half of LEFT
    assert cost.tolist() == [[-1, LARGE_COST_VALUE], [-0.5, LARGE_COST_VALUE]]
