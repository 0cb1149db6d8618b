"""Atrous spatial pyramid pooling."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lite.layers import ASPP
from tests.golden import load_case
from tests.layers.test_wrappers import filled

CASE = load_case("layers.blocks")


@torch.no_grad()
def test_golden_aspp():
    block = ASPP(8, 4, [1, 2, 3], norm="BN", activation=F.relu)
    assert list(block.state_dict()) == CASE.outputs["aspp_names"]
    CASE.check("aspp", filled(block, CASE.params["seed"])(CASE.tensor("x")))


def test_aspp_with_separable_convolutions_and_dropout_keeps_the_size():
    block = ASPP(
        8,
        4,
        [1, 2, 3],
        norm="",
        activation=nn.ReLU(),
        pool_kernel_size=(3, 4),
        dropout=0.9,
        use_depthwise_separable_conv=True,
    )
    y = block(torch.randn(2, 8, 6, 8))
    assert y.shape == (2, 4, 6, 8)
    assert (y == 0).float().mean() > 0.6
    assert block.convs[1].pointwise.bias is not None


def test_aspp_names_a_training_crop_that_the_pool_does_not_divide():
    block = ASPP(8, 4, [1, 2, 3], norm="", activation=F.relu, pool_kernel_size=(4, 4))
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(4, 4\)"):
        block(torch.randn(1, 8, 6, 8))
    assert block.eval()(torch.randn(1, 8, 6, 8)).shape == (1, 4, 6, 8)


def test_aspp_says_which_images_are_too_small_for_its_pool():
    block = ASPP(8, 4, [1, 2, 3], norm="", activation=F.relu, pool_kernel_size=(4, 4)).eval()
    with pytest.raises(ValueError, match=r"\(3, 8\).* smaller than .*INPUT\.MIN_SIZE_TEST"):
        block(torch.randn(1, 8, 3, 8))


def test_aspp_takes_three_dilations():
    with pytest.raises(ValueError, match="3 dilations"):
        ASPP(8, 4, [1, 2], norm="", activation=F.relu)
