"""Box losses by name; their values are also part of the golden cases of the heads."""

import pickle

import pytest
import torch

from d2lite.modeling.box_losses import box_loss
from d2lite.modeling.box_regression import Box2BoxTransform

UNIT = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
BOX = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


@pytest.mark.parametrize(
    "name, delta, expected",
    [
        ("smooth_l1", 0.3, 0.3),  # |0.3 - 0|, the target being the box itself
        ("giou", 0.0, 0.0),  # the same box
        ("giou", 1.0, 1.0),  # side by side: IoU 0, no gap in the enclosing box
        ("diou", 1.0, 1 + 100 / 500),  # centres 10 apart, enclosing box 20 x 10
        ("ciou", 1.0, 1 + 100 / 500),  # equal aspect ratio adds nothing
    ],
)
def test_loss_of_a_box_that_is_off_to_the_right(name: str, delta: float, expected: float):
    deltas = torch.tensor([[delta, 0.0, 0.0, 0.0]])
    assert box_loss(name)(UNIT, BOX, deltas, BOX).item() == pytest.approx(expected, abs=1e-5)


def test_smooth_l1_is_quadratic_below_beta():
    deltas = torch.tensor([[0.5, 0.0, 0.0, 0.0]])
    loss = box_loss("smooth_l1", smooth_l1_beta=1.0)(UNIT, BOX, deltas, BOX)
    assert loss.item() == pytest.approx(0.5 * 0.5**2)


@pytest.mark.parametrize("name", ["smooth_l1", "giou", "diou", "ciou"])
def test_no_boxes_have_no_loss_but_a_gradient(name: str):
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = box_loss(name)(UNIT, torch.zeros(0, 4), deltas, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0
    assert deltas.grad.shape == (0, 4)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'iou'.*smooth_l1.*giou"):
        box_loss("iou")


def test_a_loss_survives_pickling():
    loss = pickle.loads(pickle.dumps(box_loss("giou")))
    assert loss(UNIT, BOX, torch.zeros(1, 4), BOX).item() == pytest.approx(0, abs=1e-5)
