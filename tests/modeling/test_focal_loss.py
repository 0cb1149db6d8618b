import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from d2lite.modeling.focal_loss import focal_loss_of_labels


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.5, 0.0), (-1.0, 1.5)])
def test_loss_and_gradient_equal_those_of_one_hot_targets(alpha, gamma):
    torch.manual_seed(0)
    logits = torch.randn(2, 7, 3, dtype=torch.float64).mul_(4).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 3, 3, -1, 3], [-1, -1, 3, 3, 2, 2, 0]])
    counted = labels >= 0
    one_hot = F.one_hot(labels[counted], 4)[:, :3].double()
    want = sigmoid_focal_loss(logits[counted], one_hot, alpha, gamma, reduction="sum")
    (want_gradient,) = torch.autograd.grad(want, logits)

    got = focal_loss_of_labels([logits[:, :5], logits[:, 5:]], labels, alpha, gamma)
    (gradient,) = torch.autograd.grad(got, logits)
    assert torch.allclose(got, want) and torch.allclose(gradient, want_gradient)


def test_by_hand():
    # One positive and one negative entry with p = 1/2: 0.25 * ln 2 * (1/4 + 3/4).
    loss = focal_loss_of_labels([torch.zeros(1, 1, 2)], torch.tensor([[0]]), 0.25, 2.0)
    assert loss.item() == pytest.approx(0.25 * 0.693147)


@pytest.mark.parametrize("label", [-1, 2])
def test_extreme_logits_stay_finite(label):
    logits = torch.tensor([[[-1e4, 1e4]]], requires_grad=True)
    loss = focal_loss_of_labels([logits], torch.tensor([[label]]), 0.25, 2.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_without_anchors_it_is_zero():
    logits = torch.zeros(1, 0, 2, requires_grad=True)
    loss = focal_loss_of_labels([logits], torch.zeros(1, 0, dtype=torch.int64), 0.25, 2.0)
    loss.backward()
    assert loss.item() == 0
