"""From scored boxes to proposals: detectron2's figures, ties with limits, and bad numbers."""

import pytest
import torch

from d2lite.modeling.proposal_generator.proposal_utils import (
    GT_LOGIT,
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from d2lite.structures import Boxes, Instances
from tests.golden import load_case

SETTINGS = {
    "nms_thresh": 0.7,
    "pre_nms_topk": 10,
    "post_nms_topk": 10,
    "min_box_size": 0.0,
    "training": True,
}


@pytest.mark.parametrize("call", [0, 1])
def test_proposals_are_those_of_detectron2(call: int):
    case = load_case("rpn.find_top_proposals")
    levels = range(case.params["levels"])
    found = find_top_rpn_proposals(
        [case.tensor(f"boxes{i}") for i in levels],
        [case.tensor(f"logits{i}") for i in levels],
        [tuple(size) for size in case.params["image_sizes"]],
        **case.params["calls"][call],
    )
    for i, x in enumerate(found):
        case.check(f"call{call}.img{i}.boxes", x.proposal_boxes.tensor)
        case.check(f"call{call}.img{i}.logits", x.objectness_logits)


def find(boxes: list, logits: list, **changes) -> Instances:
    """Proposals of one image of 100 x 100 with one level."""
    (x,) = find_top_rpn_proposals(
        [torch.tensor([boxes])], [torch.tensor([logits])], [(100, 100)], **{**SETTINGS, **changes}
    )
    return x


def test_nms_does_not_reach_across_levels():
    box = torch.tensor([[[10.0, 10.0, 30.0, 30.0]]])
    scores = torch.tensor([[1.0]])
    (x,) = find_top_rpn_proposals([box, box], [scores, scores + 1], [(100, 100)], **SETTINGS)
    assert x.objectness_logits.tolist() == [2, 1]


def test_boxes_are_clipped_and_small_ones_dropped():
    boxes = [[-10.0, -10.0, 20.0, 20.0], [50.0, 50.0, 54.0, 90.0], [200.0, 10.0, 300.0, 40.0]]
    x = find(boxes, [1.0, 2.0, 3.0], min_box_size=5.0)
    assert x.proposal_boxes.tensor.tolist() == [[0, 0, 20, 20]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_stop_training_and_are_dropped_at_test_time(value: float):
    boxes = [[0.0, 0.0, value, 20.0], [0.0, 0.0, 20.0, 20.0]]
    with pytest.raises(FloatingPointError, match=r"1 of 2 .*SOLVER.BASE_LR"):
        find(boxes, [1.0, 2.0])
    assert len(find(boxes, [1.0, 2.0], training=False)) == 1
    assert len(find(boxes[1:] * 2, [value, 2.0], training=False)) == 1


@pytest.mark.parametrize("training", [False, True])
def test_only_images_with_a_size_count_and_others_may_be_infinite(training: bool):
    boxes = torch.tensor([10.0, 10.0, 20.0, 20.0]).expand(3, 4, 4) + torch.arange(4)[:, None] * 30
    logits = torch.arange(12.0).view(3, 4)
    logits[1, 2:] = float("inf")
    settings = {**SETTINGS, "training": training}
    (x,) = find_top_rpn_proposals([boxes], [logits], [(100, 100)], **settings)
    assert x.objectness_logits.tolist() == [2, 1, 0]  # the fourth box lies outside
    if not training:
        _, y = find_top_rpn_proposals([boxes], [logits], [(100, 100)] * 2, **settings)
        assert y.objectness_logits.tolist() == [5, 4]


def test_no_anchors_give_no_proposals():
    (x,) = find_top_rpn_proposals(
        [torch.zeros(1, 0, 4)], [torch.zeros(1, 0)], [(10, 10)], **SETTINGS
    )
    assert len(x) == 0


def proposals(count: int) -> Instances:
    return Instances(
        (10, 10), proposal_boxes=Boxes(torch.rand(count, 4)), objectness_logits=torch.rand(count)
    )


@pytest.mark.parametrize("as_boxes", [True, False])
def test_ground_truth_becomes_certain_proposals(as_boxes: bool):
    gt = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    if not as_boxes:
        gt = Instances((10, 10), gt_boxes=gt, gt_classes=torch.tensor([7]))
    (x,) = add_ground_truth_to_proposals([gt], [proposals(2)])
    assert len(x) == 3
    assert x.proposal_boxes.tensor[2].tolist() == [1, 2, 3, 4]
    assert x.objectness_logits[2].item() == pytest.approx(GT_LOGIT)
    assert torch.sigmoid(x.objectness_logits[2]) == 1
    assert not x.has("gt_classes")


def test_ground_truth_is_certain_beside_logits_of_half_precision():
    x = proposals(1)
    x.objectness_logits = x.objectness_logits.half()
    (x,) = add_ground_truth_to_proposals([Boxes(torch.ones(1, 4))], [x])
    assert x.objectness_logits.dtype == torch.float32
    assert x.objectness_logits[1].item() == pytest.approx(GT_LOGIT, rel=1e-6)


def test_ground_truth_and_proposals_must_match():
    gt = Boxes(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="1 images for proposals of 2"):
        add_ground_truth_to_proposals([gt], [proposals(1), proposals(1)])
    x = proposals(1)
    x.height = torch.ones(1)
    with pytest.raises(AssertionError, match="'height'"):
        add_ground_truth_to_proposals([gt], [x])
