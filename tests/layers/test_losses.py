"""Losses against detectron2's figures."""

import pytest
import torch

from d2lite.layers import ciou_loss, diou_loss, giou_loss, sigmoid_focal_loss, smooth_l1_loss
from tests.golden import load_case

CASE = load_case("losses.all")
BOX_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_golden_box_losses(name):
    loss = BOX_LOSSES[name]
    boxes1, boxes2 = CASE.tensor("boxes1").requires_grad_(), CASE.tensor("boxes2")
    value = loss(boxes1, boxes2)
    CASE.check(f"{name}_none", value)
    CASE.check(f"{name}_mean", loss(boxes1, boxes2, reduction="mean"))
    value.sum().backward()
    CASE.check(f"{name}_grad", boxes1.grad)


@pytest.mark.parametrize("beta", CASE.params["betas"])
def test_golden_smooth_l1(beta):
    pred, target = CASE.tensor("pred").requires_grad_(), CASE.tensor("target")
    for reduction in ("none", "sum", "mean"):
        CASE.check(f"smooth_l1_{beta}_{reduction}", smooth_l1_loss(pred, target, beta, reduction))
    smooth_l1_loss(pred, target, beta, "sum").backward()
    CASE.check(f"smooth_l1_{beta}_grad", pred.grad)


@pytest.mark.parametrize("alpha, gamma", CASE.params["focal"])
def test_golden_focal(alpha, gamma):
    logits = CASE.tensor("logits").requires_grad_()
    value = sigmoid_focal_loss(logits, CASE.tensor("onehot"), alpha, gamma)
    CASE.check(f"focal_{alpha}_{gamma}", value)
    value.sum().backward()
    CASE.check(f"focal_{alpha}_{gamma}_grad", logits.grad)


@pytest.mark.parametrize("loss", [*BOX_LOSSES.values(), lambda a, b, r: smooth_l1_loss(a, b, 0, r)])
def test_mean_over_nothing_is_zero_with_a_gradient(loss):
    boxes = torch.zeros(0, 4, requires_grad=True)
    value = loss(boxes, torch.zeros(0, 4), "mean")
    value.backward()
    assert value.item() == 0
    assert boxes.grad.shape == (0, 4)
