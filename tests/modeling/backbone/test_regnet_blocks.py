"""Stems, blocks and stages of RegNets, with weights chosen by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from d2lite.modeling.backbone.regnet_blocks import (
    SE,
    AnyStage,
    BottleneckTransform,
    ResBasicBlock,
    ResBottleneckBlock,
    ResStem,
    SimpleStem,
    conv2d,
    init_weights,
    pool2d,
)

PARAMS = {"bot_mul": 0.5, "group_w": 2, "se_r": 0.0}


@pytest.mark.parametrize("make", [partial(conv2d, 1, 1), pool2d])
def test_odd_kernels_keep_the_size_and_even_ones_are_refused(make):
    for k in (1, 3, 5):
        assert make(k)(torch.zeros(1, 1, 6, 7)).shape == (1, 1, 6, 7)
    with pytest.raises(ValueError, match="kernel size is 4; it must be odd"):
        make(4)


def test_pooling_is_the_maximum_around_each_position():
    x = torch.tensor([[[[1.0, 2.0, 3.0, 9.0]]]])
    assert pool2d(3)(x).tolist() == [[[[2, 3, 9, 9]]]]
    assert pool2d(3, stride=2)(x).tolist() == [[[[2, 9]]]]


def test_fan_out_of_grouped_convolutions_is_that_of_all_channels():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 64, 3, groups=8)
    init_weights(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.15)


def test_norms_start_as_the_identity_and_linear_layers_small():
    torch.manual_seed(0)
    norm, linear = nn.BatchNorm2d(3), nn.Linear(50, 20)
    nn.init.constant_(norm.weight, 5.0)
    nn.init.constant_(norm.bias, 5.0)
    for layer in (norm, linear):
        init_weights(layer)
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all() and linear.bias.eq(0).all()
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("stem, stride", [(ResStem, 4), (SimpleStem, 2)])
def test_stems_have_the_stride_that_they_announce(stem, stride: int):
    layer = stem(3, 4, "BN", nn.ReLU)
    assert layer.stride == stride
    out = layer(torch.randn(2, 3, 16, 8))
    assert out.shape == (2, 4, 16 // stride, 8 // stride)
    assert (out >= 0).all()


@torch.no_grad()
def test_channels_are_weighted_by_what_the_whole_map_shows():
    se = SE(2, 1, nn.Identity)
    squeeze, _, excite, _ = se.f_ex
    squeeze.weight.fill_(1.0)  # the sum of both means
    excite.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    squeeze.bias.zero_()
    excite.bias.zero_()
    x = torch.tensor([[1.0, 3.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # means 2 and 0.5
    weights = torch.tensor([2.5, -2.5]).sigmoid()
    torch.testing.assert_close(se(x), x * weights.view(1, 2, 1, 1))


def test_widths_and_groups_of_the_bottleneck():
    transform = BottleneckTransform(8, 16, 2, "BN", nn.ReLU, PARAMS | {"se_r": 0.25})
    convs = (transform.a, transform.b, transform.c)
    assert [(m.in_channels, m.out_channels) for m in convs] == [(8, 8), (8, 8), (8, 16)]
    assert [(m.groups, m.stride) for m in convs] == [(1, (1, 1)), (4, (2, 2)), (1, (1, 1))]
    assert transform.se.f_ex[0].out_channels == 2  # a quarter of the block's input
    order = [name for name, _ in transform.named_children()]
    assert order == ["a", "a_bn", "a_af", "b", "b_bn", "b_af", "se", "c", "c_bn"]
    assert not hasattr(BottleneckTransform(8, 16, 2, "BN", nn.ReLU, PARAMS), "se")


@pytest.mark.parametrize("block_class", [ResBasicBlock, ResBottleneckBlock])
@torch.no_grad()
def test_blocks_add_their_input(block_class):
    block = block_class(4, 4, 1, nn.Identity, nn.ReLU, PARAMS)
    for parameter in block.f.parameters():
        parameter.zero_()
    x = torch.randn(2, 4, 3, 3)
    assert block.proj is None and torch.equal(block(x), x.relu())


@pytest.mark.parametrize("w_out, stride", [(4, 2), (8, 1)])
@torch.no_grad()
def test_input_is_projected_if_the_shape_changes(w_out: int, stride: int):
    block = ResBasicBlock(4, w_out, stride, nn.Identity, nn.ReLU, PARAMS)
    for parameter in block.f.parameters():
        parameter.zero_()
    nn.init.ones_(block.proj.weight)
    x = torch.randn(2, 4, 4, 4)
    expected = x[:, :, ::stride, ::stride].sum(1, keepdim=True).relu().expand(-1, w_out, -1, -1)
    torch.testing.assert_close(block(x), expected)


def test_first_block_of_a_stage_changes_width_and_resolution():
    stage = AnyStage(4, 8, 2, 3, ResBasicBlock, "BN", nn.ReLU, PARAMS)
    blocks = dict(stage.named_children())
    assert list(blocks) == ["b1", "b2", "b3"]
    assert [(b.in_channels, b.stride) for b in blocks.values()] == [(4, 2), (8, 1), (8, 1)]
    assert stage(torch.randn(1, 4, 6, 6)).shape == (1, 8, 3, 3)
