"""Convolution wrapper and small functions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lite.layers import (
    Conv2d,
    cat,
    cross_entropy,
    empty_input_loss_func_wrapper,
    get_norm,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)
from d2lite.layers.wrappers import disable_torch_compiler
from tests.golden import _fill, load_case


def filled(module, seed):
    for name, tensor in module.state_dict().items():
        value = _fill()(name, tensor.shape, seed, None)
        if value is not None:
            tensor.copy_(torch.from_numpy(value))
    return module.eval()


def test_norm_and_activation_come_after_the_convolution():
    conv = Conv2d(3, 4, 3, bias=False, norm=nn.BatchNorm2d(4), activation=F.relu)
    x = torch.randn(2, 3, 6, 6)
    want = F.relu(conv.norm(F.conv2d(x, conv.weight)))
    torch.testing.assert_close(conv(x), want)


@pytest.mark.parametrize("norm", ["", "FrozenBN", "GN"])
def test_empty_batches_pass(norm):
    conv = Conv2d(3, 32, 3, stride=2, padding=1, norm=get_norm(norm, 32), activation=F.relu)
    y = conv(torch.zeros(0, 3, 9, 9))
    assert y.shape == (0, 32, 5, 5)
    y.sum().backward()
    assert not conv.weight.grad.any()


def test_golden_convolution():
    case = load_case("layers.blocks")
    conv = Conv2d(8, 6, 3, padding=1, norm=get_norm("BN", 6), activation=F.relu)
    with torch.no_grad():
        case.check("conv_norm_relu", filled(conv, case.params["seed"])(case.tensor("x")))
    empty = conv(torch.zeros(0, 8, 5, 5))
    assert list(empty.shape) == case.outputs["conv_empty_shape"]


def test_cat_of_one_is_no_copy():
    x = torch.ones(2)
    assert cat([x]) is x
    assert cat((x, x), dim=0).shape == (4,)


def test_cross_entropy_over_nothing_is_zero_with_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64)
    loss = cross_entropy(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert cross_entropy(logits, target, reduction="none").shape == (0,)


def test_cross_entropy_is_torchs_otherwise():
    logits, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    weight = torch.tensor([1.0, 2.0, 3.0])
    want = F.cross_entropy(logits, target, weight=weight)
    assert cross_entropy(logits, target, weight=weight) == want
    doubled = empty_input_loss_func_wrapper(lambda i, t, reduction: 2 * F.l1_loss(i, t))
    assert doubled(torch.ones(3), torch.zeros(3)) == 2


def test_small_functions():
    x = torch.tensor([[0, 3], [4, 0]])
    assert [i.tolist() for i in nonzero_tuple(x)] == [[0, 1], [1, 0]]
    assert move_device_like(x, torch.zeros(1, device="meta")).device.type == "meta"
    assert shapes_to_tensor((480, 640)).tolist() == [480, 640]
    assert disable_torch_compiler(lambda v: v + 1)(1) == 2
