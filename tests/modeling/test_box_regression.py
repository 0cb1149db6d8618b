import pickle

import pytest
import torch

from d2lite.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
    box_loss,
    dense_box_regression_loss,
)
from d2lite.structures import Boxes
from tests.golden import case_names, load_case

UNIT = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
BOX = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def _transform(params):
    if params["kind"] == "linear":
        return Box2BoxTransformLinear(params["normalize_by_size"])
    kind = {"plain": Box2BoxTransform, "rotated": Box2BoxTransformRotated}[params["kind"]]
    return kind(tuple(params["weights"]), **params.get("kw", {}))


@pytest.mark.parametrize("name", case_names("box_transform."))
def test_coding_equals_detectron2(name):
    case = load_case(name)
    transform, src = _transform(case.params), case.tensor("src")
    deltas = transform.get_deltas(src, case.tensor("target"))
    case.check("deltas", deltas)
    case.check("applied", transform.apply_deltas(case.tensor("deltas"), src))
    case.check("round_trip", transform.apply_deltas(deltas, src))
    if "deltas_k" in case.inputs:
        case.check("applied_k", transform.apply_deltas(case.tensor("deltas_k"), src))


def test_a_box_by_hand():
    src, target = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 25, 15]])
    # Centers (5, 10) and (15, 10); sides (10, 20) and (20, 10).
    deltas = Box2BoxTransform((1, 1, 1, 1)).get_deltas(src, target)
    assert deltas[0].tolist() == pytest.approx([1.0, 0.0, 0.693147, -0.693147])


def test_half_precision_deltas_are_decoded_in_float32():
    boxes = torch.tensor([[1000.0, 1000, 1001, 1001]])
    decoded = Box2BoxTransform((1, 1, 1, 1)).apply_deltas(torch.full((1, 4), 0.125).half(), boxes)
    assert decoded.dtype == torch.float32
    assert decoded.mean().item() == pytest.approx(1000.625, abs=1e-3)


def test_rotated_angles_wrap_the_short_way():
    src, target = torch.tensor([[0.0, 0, 2, 2, 170]]), torch.tensor([[0.0, 0, 2, 2, -170]])
    transform = Box2BoxTransformRotated((1, 1, 1, 1, 1))
    deltas = transform.get_deltas(src, target)
    assert deltas[0, 4].item() == pytest.approx(20 * 3.14159265 / 180)
    assert transform.apply_deltas(deltas, src)[0, 4].item() == pytest.approx(-170, abs=1e-4)


def test_linear_decoding_ignores_negative_distances():
    boxes = torch.tensor([[0.0, 0, 10, 20]])
    decoded = Box2BoxTransformLinear().apply_deltas(torch.tensor([[-1.0, 0.5, 1, -3]]), boxes)
    assert decoded.tolist() == [[5, 0, 15, 10]]


@pytest.mark.parametrize(
    "transform", [Box2BoxTransform((1,) * 4), Box2BoxTransformRotated((1,) * 5)]
)
def test_source_boxes_without_width_are_refused(transform):
    boxes = torch.zeros(1, len(transform.weights))
    with pytest.raises(AssertionError, match="wider than 0"):
        transform.get_deltas(boxes, boxes)


@pytest.fixture
def dense():
    """Two levels of one and two anchors, two images; anchor 1 is foreground in image 0."""
    anchors = [Boxes([[0, 0, 10, 10]]), Boxes([[0, 0, 20, 20], [20, 20, 40, 40]])]
    deltas = [torch.zeros(2, 1, 4, requires_grad=True), torch.zeros(2, 2, 4, requires_grad=True)]
    gt_boxes = [torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4) for _ in range(2)]
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 1] = True
    return anchors, deltas, gt_boxes, mask


@pytest.mark.parametrize(
    "loss_type, expected",
    [
        # deltas (-5/20, -5/20, log 1/2, log 1/2)
        ("smooth_l1", 0.5 + 2 * 0.693147),
        ("giou", 0.75),  # the small box lies in the large one: IoU 1/4, nothing else enclosed
        ("diou", 0.75 + 50 / 800),  # centers (5, 5) and (10, 10), diagonal 20 * sqrt 2
        ("ciou", 0.75 + 50 / 800),  # same aspect ratio
    ],
)
def test_dense_loss_by_hand(dense, loss_type, expected):
    anchors, deltas, gt_boxes, mask = dense
    loss = dense_box_regression_loss(
        anchors, Box2BoxTransform((1, 1, 1, 1)), deltas, gt_boxes, mask, loss_type
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert deltas[0].grad.abs().sum() == 0 and deltas[1].grad[0, 0].abs().sum() > 0


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_dense_loss_without_foreground_is_zero_with_finite_gradients(dense, loss_type):
    anchors, deltas, gt_boxes, mask = dense
    loss = dense_box_regression_loss(
        anchors, Box2BoxTransform((1, 1, 1, 1)), deltas, gt_boxes, mask & False, loss_type
    )
    loss.backward()
    assert loss.item() == 0 and all((d.grad == 0).all() for d in deltas)


def test_dense_loss_of_distances_takes_plain_tensors(dense):
    anchors, deltas, gt_boxes, mask = dense
    loss = dense_box_regression_loss(
        [a.tensor for a in anchors], Box2BoxTransformLinear(), deltas, gt_boxes, mask
    )
    # Center (10, 10), target edges at 0, 0, 10, 10: distances 10, 10, 0, 0 over 20.
    assert loss.item() == pytest.approx(1.0)


def test_an_unknown_loss_is_refused(dense):
    anchors, deltas, gt_boxes, mask = dense
    with pytest.raises(ValueError, match="'iou'; use one of"):
        dense_box_regression_loss(
            anchors, Box2BoxTransform((1, 1, 1, 1)), deltas, gt_boxes, mask, "iou"
        )


# --- losses by name; their values are also part of the golden cases of the heads --------------


@pytest.mark.parametrize(
    "name, delta, expected",
    [
        ("smooth_l1", 0.3, 0.3),  # |0.3 - 0|, the target being the box itself
        ("giou", 0.0, 0.0),  # the same box
        ("giou", 1.0, 1.0),  # side by side: IoU 0, no gap in the enclosing box
        ("diou", 1.0, 1 + 100 / 500),  # centers 10 apart, enclosing box 20 x 10
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
