"""Recall of box proposals, by hand."""

import math

import pytest
import torch

from d2lite.evaluation.proposal_recall import average_recalls, box_proposal_recall, recall_names
from d2lite.structures import Boxes, Instances


def proposals(*rows, logits=None) -> list[dict]:
    """Predictions for image 7: boxes in XYXY, best first by default."""
    logits = list(range(len(rows), 0, -1)) if logits is None else logits
    found = Instances((100, 200))
    found.proposal_boxes = Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))
    found.objectness_logits = torch.tensor(logits, dtype=torch.float32)
    return [{"image_id": 7, "proposals": found}]


def objects(*boxes_xywh, **more):
    """Return a function that gives these objects for image 7."""
    rows = [{"bbox": list(box), "area": box[2] * box[3], **more} for box in boxes_xywh]
    return lambda image_id: rows if image_id == 7 else []


TWO = ((0, 0, 10, 10), (20, 0, 10, 10))
# They cover 8 of 10 rows of the first object, and 6 of 10 of the second.
COVERS = ((0, 0, 10, 8), (20, 0, 30, 6))


def test_recall_is_the_share_of_covered_objects_at_each_iou():
    stats = box_proposal_recall(proposals(*COVERS), objects(*TWO), torch.tensor([0.5, 0.7, 0.9]))
    assert stats["gt_overlaps"].tolist() == pytest.approx([0.6, 0.8])
    assert stats["recalls"].tolist() == [1.0, 0.5, 0.0]
    assert stats["ar"].item() == pytest.approx(0.5)
    assert stats["num_pos"] == 2


def test_default_ious_are_those_of_coco():
    stats = box_proposal_recall(proposals(*COVERS), objects(*TWO))
    assert stats["thresholds"].tolist() == pytest.approx([0.5 + 0.05 * i for i in range(10)])


def test_a_proposal_covers_one_object_the_best_pair_first():
    # IoU 0.8 with the first object, 1 with the second.
    stats = box_proposal_recall(proposals((0, 0, 10, 8)), objects((0, 0, 10, 10), (0, 0, 10, 8)))
    assert stats["gt_overlaps"].tolist() == [0, 1]
    # The second proposal, of IoU 5/8 with the second object, is what the first pair leaves.
    stats = box_proposal_recall(
        proposals((0, 0, 10, 10), (0, 0, 10, 5)), objects((0, 0, 10, 10), (0, 0, 10, 8))
    )
    assert stats["gt_overlaps"].tolist() == pytest.approx([0.625, 1])


def test_only_the_best_proposals_by_logit_count():
    predictions = proposals(*COVERS, logits=[-1.0, 2.0])
    stats = box_proposal_recall(predictions, objects(*TWO), limit=1)
    assert stats["gt_overlaps"].tolist() == pytest.approx([0, 0.6])


@pytest.mark.parametrize(
    "side, areas",
    [
        (31, {"small"}),
        (32, {"small", "medium"}),  # both ends belong to a range
        (96, {"medium", "large", "96-128"}),
        (100, {"large", "96-128"}),
        (600, {"large", "512-inf"}),
    ],
)
def test_objects_by_area(side, areas):
    found = {
        area
        for area in ("small", "medium", "large", "96-128", "128-256", "256-512", "512-inf")
        if box_proposal_recall(proposals(), objects((0, 0, side, side)), area=area)["num_pos"]
    }
    assert found == areas


def test_crowds_are_no_objects():
    stats = box_proposal_recall(proposals(*COVERS), objects(*TWO, iscrowd=1))
    assert stats["num_pos"] == 0 and stats["gt_overlaps"].shape == (0,)
    assert stats["recalls"].isnan().all() and math.isnan(stats["ar"])


@pytest.mark.parametrize(
    "predictions, num_objects, overlaps",
    [(proposals(), 2, [0, 0]), ([], 0, [])],
)
def test_nothing_predicted(predictions, num_objects, overlaps):
    stats = box_proposal_recall(predictions, objects(*TWO))
    assert (stats["num_pos"], stats["gt_overlaps"].tolist()) == (num_objects, overlaps)


def test_average_recalls_are_percentages_for_each_limit_and_size():
    recalls = average_recalls(proposals((0, 0, 40, 40)), objects((0, 0, 40, 40), (50, 0, 40, 40)))
    assert list(recalls) == list(recall_names())
    assert list(recalls)[:5] == ["AR@100", "ARs@100", "ARm@100", "ARl@100", "AR@1000"]
    assert recalls["AR@100"] == recalls["ARm@1000"] == pytest.approx(50)
    assert math.isnan(recalls["ARs@100"])


def test_unknown_area_ranges_are_refused():
    with pytest.raises(ValueError, match=r"'tiny'; use one of \['all', 'small'"):
        box_proposal_recall(proposals(), objects(), area="tiny")
