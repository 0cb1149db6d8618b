"""RegNet: stage plans of the paper, outputs against torchvision's RegNet on equal weights."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.regnet import BlockParams, RegNet as TorchvisionRegNet

from d2lite.layers import FrozenBatchNorm2d
from d2lite.modeling.backbone import RegNet
from d2lite.modeling.backbone.regnet import (
    AnyNet,
    ResBasicBlock,
    ResBottleneckBlock,
    ResStem,
    SimpleStem,
    VanillaBlock,
    adjust_block_compatibility,
    generate_regnet_parameters,
)

TINY = {"depth": 4, "w_a": 8.0, "w_0": 8, "w_m": 2.0, "group_width": 4}
STAGES = ["s1", "s2", "s3"]


def tiny_regnet(**kwargs) -> RegNet:
    defaults = {
        "stem_class": SimpleStem,
        "stem_width": 8,
        "block_class": ResBottleneckBlock,
        "out_features": ["stem", *STAGES],
        **TINY,
    }
    return RegNet(**(defaults | kwargs))


def tiny_anynet(**kwargs) -> AnyNet:
    defaults = {
        "stem_class": ResStem,
        "stem_width": 4,
        "block_class": ResBasicBlock,
        "depths": [1, 2],
        "widths": [4, 8],
        "group_widths": [4, 4],
        "strides": [1, 2],
        "bottleneck_ratios": [1.0, 1.0],
        "se_ratio": 0.0,
        "activation_class": None,
    }
    return AnyNet(**(defaults | kwargs))


@pytest.mark.parametrize(
    "figures, widths, depths",
    [
        # RegNetX-4GF and RegNetY-4GF of the paper's tables; widths before they fit the groups.
        ((38.65, 96, 2.43, 23), [96, 232, 568, 1376], [2, 5, 14, 2]),
        ((31.41, 96, 2.24, 22), [96, 216, 480, 1080], [2, 6, 12, 2]),
    ],
)
def test_stages_are_those_of_the_paper(figures, widths, depths):
    got = generate_regnet_parameters(*figures)
    assert got[:4] == (widths, depths, 4, 4)
    assert len(got[4]) == len(got[5]) == figures[3]


def test_widths_are_made_to_fit_the_groups():
    # RegNetX-4GF: 80, 240, 560, 1360 in the paper.
    got = adjust_block_compatibility([96, 232, 568, 1376], [1.0] * 4, [40] * 4)
    assert got == ([80, 240, 560, 1360], [1.0] * 4, [40] * 4)
    # A bottleneck of twice the width of 12: 24 channels must hold groups of 16 and the factor 2.
    assert adjust_block_compatibility([12], [2], [16]) == ([16], [2], [16])


def as_torchvision(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under torchvision's names."""
    renamed = {}
    for name, value in ours.items():
        parts = name.split(".")
        if parts[0] == "stem":
            parts[1] = {"conv": "0", "bn": "1"}[parts[1]]
        else:
            stage = parts[0][1:]
            parts[:2] = ["trunk_output", f"block{stage}", f"block{stage}-{int(parts[1][1:]) - 1}"]
            parts[3:] = rename_in_block(parts[3:])
        renamed[".".join(parts)] = value
    return renamed


def rename_in_block(parts: list[str]) -> list[str]:
    if parts[0] in ("proj", "bn"):
        return ["proj", "0" if parts[0] == "proj" else "1", *parts[1:]]
    if parts[1] == "se":
        return ["f", "se", {"0": "fc1", "2": "fc2"}[parts[3]], *parts[4:]]
    letter, _, norm = parts[1].partition("_")
    return ["f", letter, "1" if norm else "0", *parts[2:]]


@pytest.mark.parametrize("se_ratio", [0.0, 0.25])
@torch.no_grad()
def test_outputs_are_those_of_torchvision_on_equal_weights(se_ratio: float):
    ours = tiny_regnet(se_ratio=se_ratio).eval()
    figures = {k: v for k, v in TINY.items() if k != "group_width"}
    theirs = TorchvisionRegNet(
        BlockParams.from_init_params(
            **figures, group_width=TINY["group_width"], se_ratio=se_ratio or None
        ),
        num_classes=1,
        stem_width=8,
    ).eval()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    weights = {k: v for k, v in theirs.state_dict().items() if k.startswith("fc")}
    theirs.load_state_dict(as_torchvision(ours.state_dict()) | weights)

    x = torch.randn(2, 3, 37, 50)  # sizes that no stride divides
    got, expected = ours(x), theirs.stem(x)
    torch.testing.assert_close(got["stem"], expected)
    for name, stage in zip(STAGES, theirs.trunk_output, strict=True):
        expected = stage(expected)
        torch.testing.assert_close(got[name], expected, rtol=1e-4, atol=1e-5)


def test_names_of_weights_are_those_of_released_models():
    names = set(tiny_regnet(se_ratio=0.25).state_dict())
    assert {
        "stem.conv.weight",
        "stem.bn.running_mean",
        "s1.b1.proj.weight",
        "s1.b1.bn.weight",
        "s1.b1.f.a.weight",
        "s1.b1.f.a_bn.bias",
        "s1.b1.f.b.weight",
        "s1.b1.f.b_bn.weight",
        "s1.b1.f.se.f_ex.0.weight",
        "s1.b1.f.se.f_ex.2.bias",
        "s1.b1.f.c.weight",
        "s1.b1.f.c_bn.running_var",
    } <= names
    assert "s2.b2.proj.weight" not in names  # the shape stays: no projection


def test_shapes_match_what_is_announced():
    net = tiny_regnet()
    x = torch.randn(1, 3, 64, 32)
    for name, feature in net(x).items():
        shape = net.output_shape()[name]
        assert feature.shape == (1, shape.channels, 64 // shape.stride, 32 // shape.stride)
    assert {name: s.stride for name, s in net.output_shape().items()} == {
        "stem": 2,
        "s1": 4,
        "s2": 8,
        "s3": 16,
    }


@pytest.mark.parametrize("block_class", [VanillaBlock, ResBasicBlock])
def test_basic_blocks_train(block_class):
    net = tiny_anynet(block_class=block_class)
    out = net(torch.randn(2, 3, 32, 32))
    assert list(out) == ["s2"] and out["s2"].shape == (2, 8, 4, 4)
    out["s2"].square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_freezing_counts_from_the_stem():
    net = tiny_regnet(freeze_at=2)
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    # The norms of frozen parts are no longer parameters; what is left of them are convolutions.
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert frozen == {"stem", "s1"} and trained == {"s2", "s3"}
    assert isinstance(net.stem.bn, FrozenBatchNorm2d)
    assert isinstance(net.s1.b1.f.a_bn, FrozenBatchNorm2d)
    assert isinstance(net.s2.b1.f.a_bn, nn.BatchNorm2d)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: tiny_regnet(out_features=["s7"]), "s7.*stem.*s1"),
        (lambda: tiny_regnet(w_m=0.5), "w_m > 1"),
        (lambda: tiny_regnet(w_0=9), "multiple of 8"),
        (lambda: tiny_regnet(bottleneck_ratio=1.5), "whole"),
        (lambda: tiny_anynet(strides=[1]), r"\[2, 2, 1, 2, 2\]"),
        (lambda: tiny_regnet()(torch.zeros(3, 32, 32)), r"\(N, C, H, W\)"),
    ],
)
def test_what_does_not_fit_is_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()
