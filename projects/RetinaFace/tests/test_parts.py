"""Parts of RetinaFace, by hand and against plain torch."""

import math

import pytest
import torch
from torch import nn

from d2lite.projects.retinaface import (
    ContextPyramid,
    MobileNetV1,
    SSHContext,
    decode_points,
    encode_points,
    mined_class_loss,
)


def test_landmarks_are_measured_from_the_center_in_sides():
    anchors = torch.tensor([[0.0, 0.0, 20.0, 10.0]])
    points = torch.tensor([[[10.0, 5.0], [20.0, 0.0]]])  # the center, a corner
    offsets = encode_points(points, anchors, 10.0)
    assert offsets.tolist() == [[[0.0, 0.0], [5.0, -5.0]]]


def test_decoding_reverses_encoding():
    anchors = torch.tensor([[3.0, 4.0, 35.0, 36.0], [-10.0, 0.0, 54.0, 64.0]])
    points = torch.rand(2, 5, 2) * 100
    decoded = decode_points(encode_points(points, anchors, 10.0), anchors, 10.0)
    torch.testing.assert_close(decoded, points)


def test_no_landmarks_encode_to_none():
    assert encode_points(torch.zeros(0, 5, 2), torch.zeros(0, 4), 10.0).shape == (0, 5, 2)


def test_class_loss_worked_by_hand():
    # Fair logits of two classes cost log 2 each: the face, and two of three background anchors.
    labels = torch.tensor([[1, 0, 0, 0, -1]])
    logits = torch.zeros(1, 5, 2, requires_grad=True)
    loss = mined_class_loss(logits, labels, ratio=2.0)
    assert loss.item() == pytest.approx(3 * math.log(2))
    loss.backward()
    assert (logits.grad.abs().sum(dim=2) > 0).sum() == 3
    assert logits.grad[0, 4].tolist() == [0.0, 0.0]


def test_image_without_faces_trains_as_much_background_as_one_with_a_single_face():
    labels = torch.zeros(2, 4, dtype=torch.int64)
    labels[0, 0] = 1
    loss = mined_class_loss(torch.zeros(2, 4, 2), labels, ratio=2.0)
    assert loss.item() == pytest.approx((3 + 2) * math.log(2))


@pytest.mark.parametrize("size", [(64, 96), (50, 75)])
def test_features_have_the_stated_channels_and_strides(size):
    backbone = ContextPyramid(MobileNetV1(width=0.25), ["res3", "res4", "res5"], 16)
    features = backbone(torch.zeros(2, 3, *size))
    assert list(features) == ["p3", "p4", "p5"]
    for name, shape in backbone.output_shape().items():
        sides = [math.ceil(side / shape.stride) for side in size]
        assert features[name].shape == (2, shape.channels, *sides)


def test_mobilenet_has_the_channels_of_the_paper_at_full_width():
    shapes = MobileNetV1(width=1.0).output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [(256, 8), (512, 16), (1024, 32)]


def test_context_sees_seven_cells():
    context = SSHContext(8, "", nn.Identity())
    x = torch.zeros(1, 8, 15, 15, requires_grad=True)
    context(x)[0, :, 7, 7].sum().backward()
    seen = (x.grad[0].abs().sum(dim=0) > 0).nonzero()
    assert seen.min().item() >= 4 and seen.max().item() <= 10


def test_slope_below_zero_follows_the_argument():
    act = MobileNetV1(width=0.25, negative_slope=0.1).stage2[0].depthwise.activation
    assert act(torch.tensor(-2.0)).item() == pytest.approx(-0.2)


def test_wrong_parts_are_named():
    with pytest.raises(ValueError, match="no feature 'res2'; it has"):
        MobileNetV1(out_features=["res2"])
    with pytest.raises(ValueError, match=r"strides \[8, 32\]"):
        ContextPyramid(MobileNetV1(), ["res3", "res5"], 16)
    with pytest.raises(ValueError, match="OUT_CHANNELS is 18; use a multiple of 4"):
        ContextPyramid(MobileNetV1(), ["res3", "res4"], 18)
