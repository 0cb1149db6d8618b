"""Pairs of detections in two frames."""

import torch

from d2lite.tracking import create_prediction_pairs
from tests.tracking.films import LEFT, RIGHT, frame


def test_pairs_hold_indices_number_and_overlap():
    previous = frame(RIGHT, LEFT)
    previous.ID, previous.ID_period = [7, 8], [3, 4]
    iou = torch.tensor([[0.1, 0.75]])
    pairs = create_prediction_pairs(frame(LEFT), previous, iou, threshold=0.5)
    assert pairs == [{"idx": 0, "prev_idx": 1, "prev_id": 8, "IoU": 0.75, "prev_period": 4}]


def test_no_pairs_without_detections():
    previous = frame(RIGHT)
    previous.ID, previous.ID_period = [7], [3]
    assert create_prediction_pairs(frame(), previous, torch.zeros(0, 1)) == []
