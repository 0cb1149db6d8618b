"""The box head's shapes and names."""

import pytest
import torch

from d2lite.layers import ShapeSpec
from d2lite.modeling.roi_heads import FastRCNNConvFCHead

POOLED = ShapeSpec(channels=4, height=3, width=5)


def test_fully_connected_layers_give_a_vector():
    head = FastRCNNConvFCHead(POOLED, conv_dims=[6], fc_dims=[8, 7])
    assert head.output_shape == ShapeSpec(channels=7)
    assert head(torch.zeros(2, 4, 3, 5)).shape == (2, 7)
    assert set(head.state_dict()) == {
        f"{layer}.{x}" for layer in ("conv1", "fc1", "fc2") for x in ("weight", "bias")
    }


def test_convolutions_alone_keep_the_size():
    head = FastRCNNConvFCHead(POOLED, conv_dims=[6, 2], fc_dims=[], conv_norm="BN")
    assert head.output_shape == ShapeSpec(channels=2, height=3, width=5)
    assert head(torch.zeros(2, 4, 3, 5)).shape == (2, 2, 3, 5)
    assert "conv1.bias" not in head.state_dict()
    assert "conv1.norm.running_var" in head.state_dict()


def test_no_boxes_pass_through():
    head = FastRCNNConvFCHead(POOLED, conv_dims=[6], fc_dims=[8])
    assert head(torch.zeros(0, 4, 3, 5)).shape == (0, 8)


def test_layers_are_needed():
    with pytest.raises(ValueError, match="NUM_CONV or NUM_FC"):
        FastRCNNConvFCHead(POOLED, conv_dims=[], fc_dims=[])
