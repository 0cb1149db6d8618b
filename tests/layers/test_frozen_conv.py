"""A frozen norm folded into its convolution."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lite.layers import (
    Conv2d,
    FrozenBatchNorm2d,
)
from d2lite.layers.frozen_conv import can_fold


def random_frozen_norm(channels):
    norm = FrozenBatchNorm2d(channels)
    for name, buffer in norm.named_buffers():
        buffer.uniform_(0.5, 2) if name == "running_var" else buffer.normal_()
    return norm


@pytest.mark.parametrize("side, folds", [(7, True), (4, False)])
def test_a_norm_is_folded_where_the_weights_are_fewer_than_positions(side, folds):
    conv = Conv2d(4, 6, 3, padding=1, norm=random_frozen_norm(6))  # 36 weights per channel
    assert can_fold(conv, torch.zeros(1, 4, side, side)) is folds


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"groups": 2}, {"padding": 1, "padding_mode": "reflect"}])
def test_folded_norm_equals_the_norm_after(bias, kwargs):
    conv = Conv2d(4, 6, 3, bias=bias, norm=random_frozen_norm(6), **kwargs)
    plain = nn.Conv2d(4, 6, 3, bias=bias, **kwargs)
    plain.load_state_dict(conv.state_dict(), strict=False)
    x = torch.randn(2, 4, 7, 7, requires_grad=True)
    y = conv(x)
    z = conv.norm(plain(x))
    torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(y)
    got = torch.autograd.grad(y, [x, *conv.parameters()], upstream)
    want = torch.autograd.grad(z, [x, *plain.parameters()], upstream)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_folding_sees_every_change_of_the_values():
    conv = Conv2d(2, 3, 1, norm=random_frozen_norm(3)).eval()
    x = torch.randn(1, 2, 4, 4)
    conv(x)
    conv.weight.mul_(2)
    conv.norm.bias.add_(1)
    conv.norm.load_state_dict(random_frozen_norm(3).state_dict())
    want = conv.norm(F.conv2d(x, conv.weight, conv.bias))
    torch.testing.assert_close(conv(x), want, rtol=1e-4, atol=1e-5)
    conv.norm = random_frozen_norm(3)
    conv.weight = nn.Parameter(torch.randn_like(conv.weight))
    want = conv.norm(F.conv2d(x, conv.weight, conv.bias))
    torch.testing.assert_close(conv(x), want, rtol=1e-4, atol=1e-5)


def test_hooks_of_a_frozen_norm_are_called():
    conv = Conv2d(2, 3, 1, norm=random_frozen_norm(3))
    seen = []
    conv.norm.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(1, 2, 4, 4)
    assert conv(x) is seen[0]
