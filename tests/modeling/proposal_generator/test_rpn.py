"""The region proposal network on a handful of anchors."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_proposal_generator, build_rpn_head
from d2lite.modeling.anchor_generator import DefaultAnchorGenerator
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.proposal_generator import RPN, StandardRPNHead
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import EventStorage


def tiny_rpn(**changes) -> RPN:
    """Two anchors per cell, of sides 16 and 32, on features "f" with stride 16."""
    settings = {
        "in_features": ["f"],
        "head": StandardRPNHead(in_channels=4, num_anchors=2),
        "anchor_generator": DefaultAnchorGenerator(
            sizes=[[16, 32]], aspect_ratios=[[1.0]], strides=[16], offset=0.5
        ),
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "pre_nms_topk": (20, 10),
        "post_nms_topk": (6, 4),
    }
    torch.manual_seed(0)
    return RPN(**{**settings, **changes})


def images() -> ImageList:
    return ImageList(torch.zeros(2, 3, 64, 64), [(64, 64), (48, 64)])


def targets() -> list[Instances]:
    """One object that is exactly an anchor of side 32, and an image without objects."""
    some = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    return [
        Instances((64, 64), gt_boxes=some),
        Instances((48, 64), gt_boxes=Boxes(torch.zeros(0, 4))),
    ]


def test_training_gives_losses_with_gradients_and_proposals():
    rpn = tiny_rpn()
    proposals, losses = rpn(images(), {"f": torch.randn(2, 4, 4, 4)}, targets())
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in rpn.parameters())
    assert [len(x) <= 6 for x in proposals] == [True, True]
    assert not proposals[0].proposal_boxes.tensor.requires_grad


def test_inference_gives_at_most_the_wanted_number_of_boxes_inside():
    rpn = tiny_rpn().eval()
    proposals, losses = rpn(images(), {"f": torch.randn(2, 4, 4, 4)})
    assert losses == {}
    for x, (height, width) in zip(proposals, images().image_sizes, strict=True):
        assert 0 < len(x) <= 4
        assert x.proposal_boxes.tensor[:, 0::2].max() <= width
        assert x.proposal_boxes.tensor[:, 1::2].max() <= height
        assert x.objectness_logits.tolist() == sorted(x.objectness_logits.tolist(), reverse=True)


def test_decoded_anchors_are_those_that_proposals_are_made_of():
    class Dense(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            return super()._decode_proposals(anchors, pred_anchor_deltas)

    class Shifted(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            decoded = super()._decode_proposals(anchors, pred_anchor_deltas)
            return [x + x.new_tensor([8, 0, 8, 0]) for x in decoded]

    rpn = tiny_rpn(min_box_size=8.0).eval()
    features = {"f": torch.randn(2, 4, 4, 4)}
    found = {}
    for cls in (RPN, Dense, Shifted):
        rpn.__class__ = cls
        found[cls], _ = rpn(images(), features)
    for sparse, dense in zip(found[RPN], found[Dense], strict=True):
        torch.testing.assert_close(sparse.proposal_boxes.tensor, dense.proposal_boxes.tensor)
    assert found[Shifted][0].proposal_boxes.tensor[:, 0].min() >= 0
    first, moved = (found[x][0].proposal_boxes.tensor[0] for x in (Dense, Shifted))
    assert moved[2] == min(first[2] + 8, 64)


def test_a_subclass_of_the_head_can_replace_its_convolutions():
    class Grouped(StandardRPNHead):
        def _get_rpn_conv(self, in_channels, out_channels):
            return torch.nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=2)

    head = Grouped(in_channels=4, num_anchors=2, conv_dims=[-1, 6])
    assert [conv.groups for conv in head.conv] == [2, 2]
    assert head.conv[1].weight.std() < 0.02 and not head.conv[0].bias.any()
    assert head([torch.zeros(1, 4, 5, 5)])[1][0].shape == (1, 8, 5, 5)


def test_labels_of_an_exact_match_and_of_an_empty_image():
    rpn = tiny_rpn(batch_size_per_image=64)
    anchors = rpn.anchor_generator([torch.zeros(2, 4, 4, 4)])
    labels, boxes = rpn.label_and_sample_anchors(anchors, targets())
    (foreground,) = (labels[0] == 1).nonzero(as_tuple=True)
    assert anchors[0].tensor[foreground].tolist() == [[8, 8, 40, 40]]
    assert boxes[0][foreground].tolist() == [[8, 8, 40, 40]]
    assert labels[1].unique().tolist() == [0]
    assert boxes[1].unique().tolist() == [0]


def test_sampling_keeps_the_batch_size():
    rpn = tiny_rpn(batch_size_per_image=8)
    anchors = rpn.anchor_generator([torch.zeros(2, 4, 4, 4)])
    labels, _ = rpn.label_and_sample_anchors(anchors, targets())
    assert [(x >= 0).sum().item() for x in labels] == [8, 8]


def test_anchors_that_leave_the_image_can_be_ignored():
    rpn = tiny_rpn(anchor_boundary_thresh=0, batch_size_per_image=64)
    anchors = rpn.anchor_generator([torch.zeros(2, 4, 4, 4)])
    labels, _ = rpn.label_and_sample_anchors(anchors, targets())
    outside = ~anchors[0].inside_box((64, 64), 0)
    assert outside.any()
    assert labels[0][outside].unique().tolist() == [-1]


def test_losses_worked_by_hand():
    rpn = tiny_rpn(batch_size_per_image=2, loss_weight={"loss_rpn_cls": 3.0, "loss_rpn_loc": 5.0})
    anchors = [Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 20.0]]))]
    losses = rpn.losses(
        anchors,
        [torch.tensor([[0.0, 0.0]])],
        [torch.tensor([1, 0], dtype=torch.int8)],
        [torch.tensor([[[0.1, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])],
        [torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])],
    )
    # two anchors at logit 0 cost log 2 each; one foreground delta is off by 0.1; divided by 2
    assert losses["loss_rpn_cls"].item() == pytest.approx(3 * 2 * 0.693147 / 2, rel=1e-4)
    assert losses["loss_rpn_loc"].item() == pytest.approx(5 * 0.1 / 2, rel=1e-4)


def test_numbers_of_anchors_are_logged():
    rpn = tiny_rpn()
    with EventStorage() as storage:
        rpn(images(), {"f": torch.randn(2, 4, 4, 4)}, targets())
    logged = {k: v for k, (v, _) in storage.latest().items()}
    # one foreground in one of two images; 7 and 8 of background
    assert logged == {"rpn/num_pos_anchors": 0.5, "rpn/num_neg_anchors": 7.5}


def test_several_convolutions_are_numbered():
    head = StandardRPNHead(in_channels=4, num_anchors=3, box_dim=5, conv_dims=(6, -1))
    assert {k for k in head.state_dict() if k.startswith("conv.") and k.endswith("weight")} == {
        "conv.conv0.weight",
        "conv.conv1.weight",
    }
    logits, deltas = head([torch.zeros(1, 4, 2, 3)])
    assert (logits[0].shape, deltas[0].shape) == ((1, 3, 2, 3), (1, 15, 2, 3))


@pytest.mark.parametrize("widths", [(), (0,), (-2,)])
def test_widths_must_be_positive(widths: tuple):
    with pytest.raises(ValueError, match=r"MODEL\.RPN\.CONV_DIMS"):
        StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=widths)


def test_levels_must_agree_in_width():
    shapes = [ShapeSpec(channels=4, stride=8), ShapeSpec(channels=8, stride=16)]
    with pytest.raises(ValueError, match=r"same number of channels.*\[4, 8\]"):
        build_rpn_head(get_cfg(), shapes)


def test_unknown_feature_names_the_key():
    cfg = get_cfg()
    cfg.MODEL.RPN.IN_FEATURES = ["p9"]
    with pytest.raises(ValueError, match=r"MODEL.RPN.IN_FEATURES.*'p9'.*\['res4'\]"):
        build_proposal_generator(cfg, {"res4": ShapeSpec(channels=4, stride=16)})


def test_unknown_names_are_key_errors_with_the_nearest():
    cfg = get_cfg()
    cfg.MODEL.RPN.HEAD_NAME = "StandardRpnHead"
    with pytest.raises(KeyError, match="StandardRPNHead"):
        build_rpn_head(cfg, [])
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPNN"
    with pytest.raises(KeyError, match="RPN"):
        build_proposal_generator(cfg, {})


def test_precomputed_proposals_need_no_generator():
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, {}) is None
