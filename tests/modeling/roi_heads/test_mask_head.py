"""Mask heads: the loss of masks known by hand, inference, and what is logged."""

import pytest
import torch

from d2lite.layers import ShapeSpec
from d2lite.modeling.roi_heads import MaskRCNNConvUpsampleHead
from d2lite.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from d2lite.structures import BitMasks, Boxes, Instances
from d2lite.utils.events import EventStorage


def left_half(count: int = 1) -> Instances:
    """Objects of class 1 that fill the left half of their 8 x 8 boxes."""
    mask = torch.zeros(count, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    return Instances(
        (8, 8),
        gt_masks=BitMasks(mask),
        gt_classes=torch.ones(count, dtype=torch.int64),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(count, 1)),
    )


def empty() -> Instances:
    return Instances((8, 8), gt_classes=torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("classes", [1, 3])
def test_loss_looks_at_the_true_class_only(classes: int):
    logits = torch.full((1, classes, 4, 4), 99.0)
    logits[:, classes // 2] = 0  # class 1 of 3, or the one for all
    assert mask_rcnn_loss(logits, [left_half()]).item() == pytest.approx(0.693147, rel=1e-5)


def test_masks_that_all_classes_share_need_no_classes():
    objects = left_half()
    objects.remove("gt_classes")
    mask_rcnn_loss(torch.zeros(1, 1, 4, 4), [objects])
    mask_rcnn_inference(torch.zeros(1, 1, 4, 4), [objects])
    assert objects.pred_masks.shape == (1, 1, 4, 4)


def test_shares_of_wrong_pixels_are_logged():
    logits = torch.full((1, 1, 4, 4), -1.0)
    logits[..., 0, :] = 1.0  # the upper row is predicted: half of it is right
    with EventStorage() as storage:
        mask_rcnn_loss(logits, [left_half(), empty()])
    assert {k: v for k, (v, _) in storage.latest().items()} == {
        "mask_rcnn/accuracy": 0.5,  # 2 + 6 of 16 are wrong
        "mask_rcnn/false_positive": 2 / 8,
        "mask_rcnn/false_negative": 6 / 8,
    }


def test_masks_are_drawn_when_it_is_time():
    logits = torch.zeros(2, 1, 4, 4)
    with EventStorage(start_iter=10) as storage:
        mask_rcnn_loss(logits, [left_half(2)], vis_period=5)
        mask_rcnn_loss(logits, [left_half(2)], vis_period=3)
    assert len(storage._vis_data) == 2  # of the first call
    name, image, _ = storage._vis_data[1]
    assert "Left: mask prediction" in name
    assert image.shape == (3, 4, 8)


def test_no_objects_have_a_zero_loss_with_a_gradient():
    head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=2), num_classes=3, conv_dims=[4, 4])
    losses = head(torch.zeros(0, 2, 4, 4), [empty()])
    losses["loss_mask"].backward()
    assert losses["loss_mask"] == 0
    assert head.predictor.weight.grad.abs().sum() == 0


def test_inference_keeps_the_mask_of_the_predicted_class():
    logits = torch.zeros(3, 2, 4, 4)
    logits[1, 1] = 50.0
    instances = [
        Instances((8, 8), pred_classes=torch.tensor([0, 1])),
        Instances((8, 8), pred_classes=torch.tensor([1])),
    ]
    mask_rcnn_inference(logits, instances)
    assert [x.pred_masks.shape for x in instances] == [(2, 1, 4, 4), (1, 1, 4, 4)]
    assert instances[0].pred_masks.mean(dim=(1, 2, 3)).tolist() == [0.5, 1.0]


def test_head_upsamples_by_two_and_has_the_names_of_detectron2():
    head = MaskRCNNConvUpsampleHead(
        ShapeSpec(channels=2), num_classes=3, conv_dims=[4, 6], conv_norm="BN", loss_weight=2.0
    ).eval()
    assert {k.rsplit(".", 1)[0] for k in head.state_dict()} == {
        "mask_fcn1",
        "mask_fcn1.norm",
        "deconv",
        "predictor",
    }
    instances = [Instances((8, 8), pred_classes=torch.tensor([2]))]
    assert head(torch.zeros(1, 2, 7, 7), instances)[0].pred_masks.shape == (1, 1, 14, 14)


def test_bad_masks_are_refused():
    with pytest.raises(ValueError, match="square"):
        mask_rcnn_loss(torch.zeros(1, 1, 4, 5), [left_half()])
    with pytest.raises(ValueError, match="conv_dims"):
        MaskRCNNConvUpsampleHead(ShapeSpec(channels=2), num_classes=3, conv_dims=[])
