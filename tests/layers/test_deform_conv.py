"""Deformable convolutions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lite.layers import DeformConv, ModulatedDeformConv
from tests.golden import load_case
from tests.layers.test_wrappers import filled


@torch.no_grad()
def test_golden():
    case = load_case("layers.blocks")
    conv = filled(DeformConv(8, 6, 3, padding=1), case.params["seed"])
    case.check("deform_conv", conv(case.tensor("x"), case.tensor("offset")))


@pytest.mark.parametrize("kwargs", [{}, {"groups": 2, "deformable_groups": 2, "stride": 2}])
def test_without_offsets_it_is_a_convolution(kwargs):
    conv = DeformConv(4, 6, 3, padding=2, dilation=2, norm=nn.GroupNorm(2, 6), **kwargs)
    x = torch.randn(2, 4, 7, 9)
    groups = kwargs.pop("deformable_groups", 1)
    plain = F.conv2d(x, conv.weight, padding=2, dilation=2, **kwargs)
    offset = torch.zeros(2, groups * 18, *plain.shape[2:])
    torch.testing.assert_close(conv(x, offset), conv.norm(plain), rtol=1e-4, atol=1e-5)


def test_offsets_are_down_then_across():
    conv = DeformConv(1, 1, 1)
    nn.init.ones_(conv.weight)
    x = torch.arange(12.0).view(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 0] = 1  # one row down
    torch.testing.assert_close(conv(x, offset)[..., :2, :], x[..., 1:, :])


def test_masks_weigh_and_the_bias_is_added():
    conv = ModulatedDeformConv(4, 6, (1, 3), padding=(0, 1), activation=F.relu)
    nn.init.normal_(conv.bias)
    x, offset = torch.randn(2, 4, 5, 5), torch.zeros(2, 6, 5, 5)
    half = conv(x, offset, torch.full((2, 3, 5, 5), 0.5))
    want = F.relu(F.conv2d(x, conv.weight / 2, conv.bias, padding=(0, 1)))
    torch.testing.assert_close(half, want, rtol=1e-4, atol=1e-5)


def test_every_input_and_parameter_gets_a_gradient():
    conv = ModulatedDeformConv(4, 6, 3, padding=1, deformable_groups=2)
    inputs = [torch.randn(1, c, 5, 5, requires_grad=True) for c in (4, 36, 18)]
    conv(*inputs).square().sum().backward()
    for tensor in [*inputs, conv.weight, conv.bias]:
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_empty_batches_pass():
    conv = DeformConv(4, 6, 3, padding=1)
    x = torch.zeros(0, 4, 5, 5, requires_grad=True)
    y = conv(x, torch.zeros(0, 18, 5, 5))
    assert y.shape == (0, 6, 5, 5)
    y.sum().backward()
    assert not conv.weight.grad.any()


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="no bias"):
        DeformConv(4, 6, 3, bias=True)
    with pytest.raises(ValueError, match="in_channels 4 is not a multiple of its 3 groups"):
        DeformConv(4, 6, 3, groups=3)
    conv = DeformConv(4, 6, 3, deformable_groups=3)  # which detectron2 takes too
    with pytest.raises(ValueError, match="4 is not a multiple of its 3 deformable groups"):
        conv(torch.zeros(1, 4, 8, 8), torch.zeros(1, 54, 6, 6))
    with pytest.raises(ValueError, match="9 channels, this layer needs 18"):
        DeformConv(4, 6, 3)(torch.zeros(1, 4, 5, 5), torch.zeros(1, 9, 3, 3))


def test_settings_are_shown():
    assert "deformable_groups=2" in repr(DeformConv(4, 6, 3, deformable_groups=2))
    assert "bias=False" in repr(ModulatedDeformConv(4, 6, 3, bias=False))
