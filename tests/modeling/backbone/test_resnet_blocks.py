"""Blocks of ResNet against detectron2's outputs, and by hand."""

import pytest
import torch

from d2lite.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from tests.golden import fill_model, load_case


def bottleneck(**kwargs) -> BottleneckBlock:
    return BottleneckBlock(8, 16, bottleneck_channels=4, stride=2, **kwargs)


@pytest.mark.parametrize(
    "name, build",
    [
        ("stem", lambda: BasicStem(3, 8, "BN")),
        ("basic_block", lambda: BasicBlock(8, 8, norm="BN")),
        ("bottleneck", lambda: bottleneck(num_groups=2, stride_in_1x1=True)),
        ("bottleneck_3x3_stride", lambda: bottleneck(dilation=2)),
    ],
)
def test_block_gives_the_figures_of_detectron2(name: str, build):
    case = load_case("layers.blocks")
    block = build()  # in training mode: with the statistics of the batch
    if name != "stem":
        assert list(block.state_dict()) == case.outputs[f"{name}_names"]
    fill_model(block, case.params["seed"])
    with torch.no_grad():
        case.check(name, block(case.tensor("img" if name == "stem" else "x")))


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_block_starts_as_a_plain_one(modulated: bool):
    deform = DeformBottleneckBlock(
        8, 16, bottleneck_channels=4, stride=2, norm="", deform_modulated=modulated
    )
    plain = BottleneckBlock(8, 16, bottleneck_channels=4, stride=2, norm="")
    plain.load_state_dict({k: v for k, v in deform.state_dict().items() if "offset" not in k})
    if modulated:  # every point starts with the weight sigmoid(0)
        plain.conv2.weight.data *= 0.5
    x = torch.randn(2, 8, 6, 7)
    torch.testing.assert_close(deform(x), plain(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_modulated_points_are_weighted_by_the_last_third_of_the_channels():
    deform = DeformBottleneckBlock(
        8, 16, bottleneck_channels=4, norm="", deform_modulated=True, deform_num_groups=2
    )
    plain = BottleneckBlock(8, 16, bottleneck_channels=4, norm="")
    plain.load_state_dict({k: v for k, v in deform.state_dict().items() if "offset" not in k})
    assert len(deform.conv2_offset.bias) == 3 * 9 * 2
    deform.conv2_offset.bias[2 * 9 * 2 :] = 50.0  # sigmoid(50) is 1
    x = torch.randn(2, 8, 6, 7)
    torch.testing.assert_close(deform(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block_class", [BottleneckBlock, DeformBottleneckBlock])
@pytest.mark.parametrize("in_1x1, strides", [(True, [2, 1, 1]), (False, [1, 2, 1])])
def test_convolution_that_has_the_stride(block_class, in_1x1: bool, strides: list[int]):
    block = block_class(8, 16, bottleneck_channels=4, stride=2, stride_in_1x1=in_1x1, norm="")
    found = [conv.stride for conv in (block.conv1, block.conv2, block.conv3)]
    assert [stride if isinstance(stride, int) else stride[0] for stride in found] == strides


@pytest.mark.parametrize(
    "make",
    [
        lambda: BasicBlock(4, 4, norm=""),
        lambda: BottleneckBlock(4, 4, bottleneck_channels=2, norm=""),
        lambda: DeformBottleneckBlock(4, 4, bottleneck_channels=2, norm=""),
    ],
)
@torch.no_grad()
def test_blocks_add_their_input(make):
    block = make()
    for parameter in block.parameters():
        parameter.zero_()
    x = torch.randn(2, 4, 5, 5)
    assert block.shortcut is None and torch.equal(block(x), x.relu())


def test_input_is_projected_only_if_the_channels_change():
    """Released weights have no projection for a stride alone."""
    assert BasicBlock(4, 4, stride=2).shortcut is None
    shortcut = BasicBlock(4, 8, stride=2).shortcut
    assert (shortcut.in_channels, shortcut.out_channels, shortcut.stride) == (4, 8, (2, 2))


@torch.no_grad()
def test_stem_takes_the_maximum_around_every_second_position():
    stem = BasicStem(1, 1, norm="")
    stem.conv1.weight.zero_()
    stem.conv1.weight[0, 0, 3, 3] = 1.0  # every second pixel as it is
    x = torch.arange(64.0).view(1, 1, 8, 8)
    # The convolution leaves rows and columns 0, 2, 4 and 6; windows reach one place back.
    assert stem(x)[0, 0].tolist() == [[18, 22], [50, 54]]
