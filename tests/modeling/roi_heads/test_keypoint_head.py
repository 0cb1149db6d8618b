"""Keypoint heads: losses by hand and their divisors."""

import math

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.roi_heads import KRCNNConvDeconvUpsampleHead, build_keypoint_head
from d2lite.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference, keypoint_rcnn_loss
from d2lite.structures import Boxes, Instances, Keypoints
from d2lite.utils.events import EventStorage

SIDE = 4


def person(visibilities: list[int]) -> Instances:
    """One object of 8 x 8 pixels with all keypoints at (1, 1)."""
    keypoints = torch.tensor([[[1.0, 1.0, v] for v in visibilities]])
    return Instances(
        (8, 8),
        gt_keypoints=Keypoints(keypoints),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]])),
    )


@pytest.mark.parametrize("normalizer, divisor", [(None, 2), (10.0, 10)])
def test_even_heat_maps_cost_the_log_of_their_cells(normalizer: float | None, divisor: float):
    logits = torch.zeros(1, 3, SIDE, SIDE)
    loss = keypoint_rcnn_loss(logits, [person([2, 0, 2])], normalizer)
    assert loss.item() == pytest.approx(2 * math.log(SIDE * SIDE) / divisor, rel=1e-5)


def test_a_sure_prediction_costs_nothing():
    logits = torch.zeros(1, 1, SIDE, SIDE)
    logits[0, 0, 0, 0] = 100.0  # pixel 1 of 8 lies in the first of 4 cells
    assert keypoint_rcnn_loss(logits, [person([2])], None).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("instances", [[], [person([0])]])
def test_nothing_visible_gives_zero_with_a_gradient(instances: list):
    logits = torch.zeros(len(instances), 1, SIDE, SIDE, requires_grad=True)
    with EventStorage() as storage:
        loss = keypoint_rcnn_loss(logits, instances, None) + keypoint_rcnn_loss(logits, [], 1.0)
    assert storage.latest()["kpts_num_skipped_batches"][0] == 2
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_inference_finds_the_hottest_cell():
    logits = torch.zeros(1, 1, SIDE, SIDE)
    logits[0, 0, 1, 2] = 10.0
    x = Instances((8, 8), pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]])))
    keypoint_rcnn_inference(logits, [x])
    px, py, score = x.pred_keypoints[0, 0].tolist()
    assert (px, py) == pytest.approx((5.0, 3.0), abs=1.01)  # the middle of a cell of 2 x 2
    assert 0 < score <= 1
    assert x.pred_keypoint_heatmaps.shape == (1, 1, SIDE, SIDE)


def test_head_upsamples_by_four_and_weighs_its_loss():
    head = KRCNNConvDeconvUpsampleHead(
        ShapeSpec(channels=2),
        num_keypoints=3,
        conv_dims=[4, 4],
        loss_weight=2.0,
        loss_normalizer="visible",
    )
    x = torch.zeros(1, 2, 1, 1)
    logits = head.layers(x)
    assert logits.shape == (1, 3, 4, 4)
    expected = keypoint_rcnn_loss(logits, [person([2, 2, 2])], None)
    loss = head(x, [person([2, 2, 2])])["loss_keypoint"]
    assert loss.item() == pytest.approx(2 * expected.item())


def test_fixed_divisor_counts_images_samples_and_keypoints():
    cfg = get_cfg()
    cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = False
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [4]
    head = build_keypoint_head(cfg, ShapeSpec(channels=2))
    assert head.loss_normalizer == 17 * 512 * 0.25


def test_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match='"visible" or a number'):
        KRCNNConvDeconvUpsampleHead(
            ShapeSpec(channels=2), num_keypoints=3, conv_dims=[4], loss_normalizer="all"
        )
