"""Convolutional building blocks."""

import torch
from torch import nn
from torch.nn import functional as F

from d2lite.layers import CNNBlockBase, DepthwiseSeparableConv2d, FrozenBatchNorm2d
from tests.golden import load_case
from tests.layers.test_wrappers import filled

CASE = load_case("layers.blocks")


@torch.no_grad()
def test_golden_depthwise_separable():
    block = DepthwiseSeparableConv2d(8, 6, norm1="BN", activation1=F.relu, norm2="BN")
    assert list(block.state_dict()) == CASE.outputs["depthwise_separable_names"]
    CASE.check("depthwise_separable", filled(block, CASE.params["seed"])(CASE.tensor("x")))


class Block(CNNBlockBase):
    def __init__(self):
        super().__init__(3, 4, stride=1)
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)


def test_freezing_a_block():
    block = Block()
    assert block.freeze() is block
    assert type(block.norm) is FrozenBatchNorm2d
    assert not any(parameter.requires_grad for parameter in block.parameters())
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 1)
