"""The shared steps of detectors, by hand."""

import pytest
import torch

from d2lite.modeling.detection_steps import (
    class_labels,
    is_foreground,
    matched_boxes,
    moving_average,
    nms_detections,
    permute_to_N_HWA_K,
    select_candidates,
    select_top_of_levels,
)
from d2lite.modeling.matcher import BACKGROUND, FOREGROUND, IGNORED
from d2lite.structures import Boxes, Instances, RotatedBoxes

NO_CLASSES = torch.zeros(0, dtype=torch.int64)


def test_predictions_are_ordered_by_row_column_anchor():
    rows, columns, anchors, values = 2, 3, 2, 5
    by_hand = torch.arange(rows * columns * anchors * values).reshape(1, -1, values)
    tensor = by_hand.reshape(1, rows, columns, anchors * values).permute(0, 3, 1, 2)
    assert torch.equal(permute_to_N_HWA_K(tensor, values), by_hand)
    assert permute_to_N_HWA_K(torch.zeros(0, 10, 2, 3), 5).shape == (0, 12, 5)


def test_labels_of_matches():
    matches = torch.tensor([1, 0, 0, 1])
    match_labels = torch.tensor([FOREGROUND, FOREGROUND, BACKGROUND, IGNORED], dtype=torch.int8)
    labels = class_labels(torch.tensor([5, 7]), matches, match_labels, background=80)
    assert labels.tolist() == [7, 5, 80, -1]
    assert is_foreground(labels, 80).tolist() == [True, True, False, False]
    assert matches.tolist() == [1, 0, 0, 1]  # left as they were


def test_without_objects_all_is_background_whatever_the_matcher_says():
    matches, match_labels = torch.zeros(2, dtype=torch.int64), torch.full((2,), IGNORED)
    assert class_labels(NO_CLASSES, matches, match_labels, background=3).tolist() == [3, 3]


def test_boxes_of_matches():
    boxes = Boxes([[0, 0, 1, 1], [2, 2, 3, 3]])
    assert matched_boxes(boxes, torch.tensor([1, 0, 1]))[:, 0].tolist() == [2, 0, 2]
    nothing = RotatedBoxes(torch.zeros(0, 5))
    assert matched_boxes(nothing, torch.tensor([0, 0])).tolist() == [[0.0] * 5] * 2


def test_moving_average_by_hand():
    assert moving_average(100.0, torch.tensor(20)).item() == pytest.approx(92)
    assert moving_average(torch.tensor(4), 2.0, momentum=0.5).item() == pytest.approx(3)


def test_candidates_are_the_best_pairs_above_the_threshold():
    scores = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.7, 0.0]])
    best = select_candidates(scores, threshold=0.1, topk=3)
    assert best.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert (best.anchors.tolist(), best.classes.tolist()) == ([0, 2, 1], [1, 0, 0])
    assert len(select_candidates(scores, 0.1, 9).scores) == 4  # the threshold itself is too low
    assert [len(x) for x in select_candidates(scores, 1.0, 9)] == [0, 0, 0]
    assert [len(x) for x in select_candidates(torch.zeros(0, 2), 0.1, 9)] == [0, 0, 0]


def test_every_level_keeps_its_best():
    logits = [torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[-5.0]])]
    top = select_top_of_levels(logits, 2)
    assert [x.tolist() for x in top.indices] == [[[0, 2]], [[0]]]
    assert (top.logits.tolist(), top.levels.tolist()) == ([[3.0, 2.0, -5.0]], [0, 0, 1])


def test_nms_is_within_a_class_and_keeps_further_fields():
    candidates = Instances(
        (9, 9),
        pred_boxes=Boxes([[0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 4], [5, 5, 9, 9]]),
        scores=torch.tensor([0.5, 0.9, 0.7, 0.1]),
        pred_classes=torch.tensor([0, 0, 1, 0]),
        row=torch.arange(4),
    )
    assert nms_detections(candidates, 0.5, 10).row.tolist() == [1, 2, 3]
    assert nms_detections(candidates, 0.5, 2).row.tolist() == [1, 2]
    assert len(nms_detections(candidates[:0], 0.5, 2)) == 0
