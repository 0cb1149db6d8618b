"""Non-maximum suppression: detectron2's figures and cases by hand."""

import sys

import pytest
import torch

from d2lite.layers import (
    batched_nms,
    batched_nms_rotated,
    nms,
    nms_rotated,
    pairwise_iou_rotated,
)
from d2lite.layers.nms import greedy_keep, overlapping_pairs
from tests.golden import load_case

CASE = load_case("nms.all")


@pytest.mark.parametrize("threshold", CASE.params["thresholds"])
def test_golden(threshold):
    boxes, rboxes = CASE.tensor("boxes"), CASE.tensor("rboxes")
    scores, idxs = CASE.tensor("scores"), CASE.tensor("idxs")
    CASE.check(f"nms_{threshold}", nms(boxes, scores, threshold))
    CASE.check(f"batched_nms_{threshold}", batched_nms(boxes, scores, idxs, threshold))
    CASE.check(f"nms_rotated_{threshold}", nms_rotated(rboxes, scores, threshold))
    got = batched_nms_rotated(rboxes, scores, idxs, threshold)
    CASE.check(f"batched_nms_rotated_{threshold}", got)


def test_golden_without_boxes():
    none = torch.zeros(0)
    CASE.check("empty", batched_nms(torch.zeros(0, 4), none, none.long(), 0.5))
    CASE.check("empty_rotated", nms_rotated(torch.zeros(0, 5), none, 0.5))
    CASE.check("empty_rotated", batched_nms_rotated(torch.zeros(0, 5), none, none.long(), 0.5))


def test_a_suppressed_box_suppresses_nothing():
    # Each overlaps the next by a half; the first removes the second, which spares the third.
    boxes = torch.tensor([[x, 0.0, 4, 4, 0] for x in (0.0, 1.5, 3.0, 4.5)])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert nms_rotated(boxes, scores, 0.4).tolist() == [0, 2]


@pytest.mark.parametrize(
    "pairs, kept",
    [
        ([], [0, 1, 2, 3]),
        ([(0, 1), (1, 2), (2, 3)], [0, 2]),  # a chain: every other one
        ([(0, 2), (1, 2), (2, 3)], [0, 1, 3]),
        ([(0, 1), (0, 2), (0, 3), (2, 3)], [0]),
    ],
)
def test_greedy_keep_by_hand(pairs, kept):
    better, worse = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
    assert greedy_keep(better, worse, 4).nonzero()[:, 0].tolist() == kept


def test_overlapping_pairs_by_hand():
    # IoU of the first with the second 3/5, of the second with the third 2/6; the last is apart.
    boxes = torch.tensor([[x, 0.0, 4, 4, 0] for x in (0.0, 1.0, 3.0, 20.0)])
    better, worse = overlapping_pairs(boxes, 0.3)
    assert (better.tolist(), worse.tolist()) == ([0, 1], [1, 2])
    better, worse = overlapping_pairs(boxes, 0.5)
    assert (better.tolist(), worse.tolist()) == ([0], [1])
    assert [len(part) for part in overlapping_pairs(boxes[:0], 0.5)] == [0, 0]


def test_equal_scores_keep_the_first():
    boxes = torch.tensor([[0.0, 0, 4, 4, 10]] * 3)
    assert nms_rotated(boxes, torch.ones(3), 0.5).tolist() == [0]


def test_rotated_agrees_with_the_greedy_loop(monkeypatch):
    module = sys.modules["d2lite.layers.nms"]  # the package has a function of that name
    monkeypatch.setattr(module, "CANDIDATES_PER_CHUNK", 300)
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(120, 5, generator=generator) * torch.tensor([20.0, 20, 9, 9, 360])
    scores = torch.rand(120, generator=generator)
    overlap = pairwise_iou_rotated(boxes, boxes) > 0.2
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if not overlap[i, kept].any():
            kept.append(i)
    assert nms_rotated(boxes, scores, 0.2).tolist() == kept


def test_groups_do_not_meet():
    boxes = torch.tensor([[0.0, 0, 4, 4]] * 3)
    scores, idxs = torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0, 1, 0])
    assert batched_nms(boxes, scores, idxs, 0.5).tolist() == [1, 2]
    rotated = torch.tensor([[2.0, 2, 4, 4, 5]] * 3)
    assert batched_nms_rotated(rotated, scores, idxs, 0.5).tolist() == [1, 2]


def test_half_precision_boxes_keep_groups_apart():
    boxes = torch.tensor([[1000.0, 1000, 1010, 1010]] * 50).half()
    kept = batched_nms(boxes, torch.rand(50), torch.arange(50), 0.5)
    assert len(kept) == 50
