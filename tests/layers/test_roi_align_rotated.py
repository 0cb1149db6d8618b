"""Rotated ROIAlign against detectron2's figures and the upright one."""

import pytest
import torch

from d2lite.layers import ROIAlignRotated, roi_align, roi_align_rotated
from d2lite.layers.roi_align_rotated import bilinear_terms
from tests.golden import load_case


@pytest.mark.parametrize("name", ["roi_align.rotated", "roi_align.rotated_adaptive"])
def test_golden(name):
    case = load_case(name)
    x = case.tensor("x").requires_grad_()
    params = case.params
    pool = ROIAlignRotated(tuple(params["output_size"]), params["scale"], params["sampling_ratio"])
    y = pool(x, case.tensor("rois"))
    case.check("y", y)
    y.backward(case.tensor("gy"))
    case.check("gx", x.grad)


@pytest.mark.parametrize(
    "y, x, weights",
    [
        (0.5, 0.25, [0.375, 0.125, 0.375, 0.125]),
        (0.0, 1.0, [1.0, 0.0, 0.0, 0.0]),  # on a cell
        (-0.5, 0.25, [0.75, 0.25, 0.0, 0.0]),  # outside, as on the edge
        (-1.5, 0.25, [0.0, 0.0, 0.0, 0.0]),  # far outside
    ],
)
def test_bilinear_terms_by_hand(y, x, weights):
    # The second of two maps of 2 x 3 cells, which begins at cell 6.
    image, at_y, at_x = torch.tensor([1]), torch.tensor([y]), torch.tensor([x])
    cell, weight = bilinear_terms(image, at_y, at_x, (2, 3), torch.tensor([2.0]))
    left = int(x)
    assert cell.tolist() == [[6 + left, 7 + left, 9 + left, 10 + left]]
    assert weight.tolist() == [[2 * w for w in weights]]


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_without_rotation_it_is_roi_align(sampling_ratio):
    x = torch.randn(1, 3, 12, 16)
    upright = torch.tensor([[0, 2.0, 3.0, 9.0, 7.0], [0, -3.0, 1.0, 20.0, 5.5]])
    center = (upright[:, 1:3] + upright[:, 3:5]) / 2
    size = upright[:, 3:5] - upright[:, 1:3]
    rotated = torch.cat([upright[:, :1], center, size, torch.zeros(2, 1)], dim=1)
    torch.testing.assert_close(
        roi_align_rotated(x, rotated, (3, 2), 0.5, sampling_ratio),
        roi_align(x, upright, (3, 2), 0.5, sampling_ratio, aligned=True),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_quarter_turn_turns_the_result():
    x = torch.randn(1, 2, 12, 12)
    roi = torch.tensor([[0, 6.0, 6.0, 8.0, 4.0, 0.0]])
    turned = torch.tensor([[0, 6.0, 6.0, 8.0, 4.0, 90.0]])
    # Counter-clockwise on the image: what the turned box sees is the picture turned clockwise.
    want = roi_align_rotated(torch.rot90(x, -1, (2, 3)), roi, 4, 1.0, 2)
    torch.testing.assert_close(roi_align_rotated(x, turned, 4, 1.0, 2), want, rtol=1e-4, atol=1e-5)


def test_gradient_is_that_of_finite_differences():
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 3.0, 2.0, 4.0, 2.5, 30.0]])
    assert torch.autograd.gradcheck(lambda x: roi_align_rotated(x, rois, 2, 1.0, 0), x)


def test_empty_boxes_and_no_boxes():
    x = torch.randn(1, 2, 5, 6, requires_grad=True)
    assert not roi_align_rotated(x, torch.tensor([[0, 3.0, 2, 0, 0, 30]]), 2, 1.0, 0).any()
    nothing = roi_align_rotated(x, torch.zeros(0, 6), 2, 1.0, 0)
    assert nothing.shape == (0, 2, 2, 2)
    nothing.sum().backward()
    assert not x.grad.any()


def test_rois_of_wrong_width_are_refused():
    with pytest.raises(ValueError, match=r"\(R, 6\).*\(3, 5\)"):
        ROIAlignRotated(2, 1.0, 0)(torch.zeros(1, 1, 4, 4), torch.zeros(3, 5))
