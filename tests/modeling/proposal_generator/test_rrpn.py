import math

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_proposal_generator
from d2lite.modeling.box_regression import Box2BoxTransformRotated
from d2lite.modeling.proposal_generator.rrpn import RRPN, find_top_rrpn_proposals
from d2lite.structures import ImageList, Instances, RotatedBoxes


def config():
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RRPN"
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)
    cfg.MODEL.RPN.IN_FEATURES = ["f"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 6
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.ANCHOR_GENERATOR.ANGLES = [[0, 45]]
    return cfg


@pytest.fixture
def rrpn() -> RRPN:
    torch.manual_seed(0)
    return build_proposal_generator(config(), {"f": ShapeSpec(channels=4, stride=16)})


def top(boxes: list, logits: list, training: bool = False, **changes) -> Instances:
    settings = {"nms_thresh": 0.5, "pre_nms_topk": 10, "post_nms_topk": 10, "min_box_size": 1}
    (found,) = find_top_rrpn_proposals(
        [torch.tensor([boxes])],
        [torch.tensor([logits])],
        [(50, 50)],
        **{**settings, **changes},
        training=training,
    )
    return found


def test_proposals_pass_nms_by_their_rotated_overlap():
    boxes = [[20.0, 20, 20, 4, 0], [20.0, 20, 20, 4, 90], [21.0, 20, 20, 4, 0]]
    found = top(boxes, [0.5, 0.3, 0.9])
    assert found.objectness_logits.tolist() == pytest.approx([0.9, 0.3])
    assert isinstance(found.proposal_boxes, RotatedBoxes)
    assert found.proposal_boxes.tensor[:, 4].tolist() == [0, 90]


def test_the_best_of_a_level_the_best_of_all_and_the_large_ones_are_kept():
    boxes = [[10.0, 10, 8, 8, 30], [30.0, 10, 8, 8, 30], [10.0, 30, 8, 0.5, 30]]
    assert top(boxes, [0.1, 0.2, 0.3]).objectness_logits.tolist() == pytest.approx([0.2, 0.1])
    assert len(top(boxes, [0.1, 0.2, 0.3], pre_nms_topk=2)) == 1
    assert len(top(boxes, [0.1, 0.2, 0.3], post_nms_topk=1)) == 1


def test_values_that_are_not_finite_are_dropped_or_stop_the_training():
    boxes = [[10.0, 10, 8, 8, 30], [math.inf, 10, 8, 8, 30]]
    assert len(top(boxes, [0.1, 0.2])) == 1
    with pytest.raises(FloatingPointError, match="1 of 2"):
        top(boxes, [0.1, 0.2], training=True)


def test_training_labels_anchors_by_rotated_overlap(rrpn):
    anchors = rrpn.anchor_generator([torch.zeros(1, 4, 2, 2)])
    # The anchor turned by 45 degrees in the first cell, exactly.
    gt = Instances((32, 32), gt_boxes=RotatedBoxes([[0, 0, 16, 16, 45]]))
    none = Instances((32, 32), gt_boxes=RotatedBoxes([]))
    labels, boxes = rrpn.label_and_sample_anchors(anchors, [gt, none])
    assert labels[0][1] == 1
    assert boxes[0][1].tolist() == [0, 0, 16, 16, 45]
    assert (labels[1] == 0).all() and boxes[1].shape == (8, 5) and not boxes[1].any()


def test_losses_have_gradients_and_proposals_do_not(rrpn):
    images = ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)])
    gt = Instances((64, 64), gt_boxes=RotatedBoxes([[20, 20, 16, 16, 40]]))
    proposals, losses = rrpn(images, {"f": torch.randn(1, 4, 4, 4)}, [gt])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}
    assert all(torch.isfinite(p.grad).all() for p in rrpn.parameters())
    assert not proposals[0].proposal_boxes.tensor.requires_grad


def test_inference_gives_at_most_the_wanted_number(rrpn):
    images = ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)])
    (found,), losses = rrpn.eval()(images, {"f": torch.randn(1, 4, 4, 4)})
    assert losses == {} and 0 < len(found) <= 6
    assert isinstance(rrpn.box2box_transform, Box2BoxTransformRotated)


def test_a_limit_at_the_border_is_refused():
    cfg = config()
    cfg.MODEL.RPN.BOUNDARY_THRESH = 0
    with pytest.raises(NotImplementedError, match=r"RPN.BOUNDARY_THRESH"):
        build_proposal_generator(cfg, {"f": ShapeSpec(channels=4, stride=16)})
