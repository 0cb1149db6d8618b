"""Feature pyramids on a backbone whose features are known."""

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.modeling.backbone import FPN, Backbone, build_backbone
from d2lite.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7


class Strided(Backbone):
    """Features "s4", "s8", "s16" of ones, so that sums can be done by hand."""

    def __init__(self, strides=(4, 8, 16)):
        super().__init__()
        self._out_features = [f"s{s}" for s in strides]
        self._out_feature_channels = dict.fromkeys(self._out_features, 2)
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))

    def forward(self, x):
        n, _, h, w = x.shape
        return {
            name: torch.ones(n, 2, h // s, w // s) for name, s in self._out_feature_strides.items()
        }


def pass_through(fpn: FPN) -> FPN:
    """Make every convolution of the pyramid the identity of 2 channels."""
    for conv in fpn.lateral_convs + fpn.output_convs:
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    return fpn


@pytest.mark.parametrize(
    "fuse_type, expected",
    [("sum", [3.0, 2.0, 1.0]), ("avg", [1.0, 1.0, 1.0])],
)
def test_levels_add_what_lies_above(fuse_type: str, expected: list[float]):
    fpn = pass_through(FPN(Strided(), ["s4", "s8", "s16"], 2, fuse_type=fuse_type))
    levels = fpn(torch.zeros(1, 3, 32, 48))
    assert list(levels) == ["p2", "p3", "p4"]
    assert [x.shape[-2:] for x in levels.values()] == [(8, 12), (4, 6), (2, 3)]
    assert [x.unique().tolist() for x in levels.values()] == [[v] for v in expected]


def test_shapes_and_divisibility():
    fpn = FPN(Strided(), ["s4", "s8", "s16"], 6, square_pad=64)
    assert fpn.size_divisibility == 16
    assert fpn.padding_constraints == {"square_size": 64}
    assert [(s.channels, s.stride) for s in fpn.output_shape().values()] == [
        (6, 4),
        (6, 8),
        (6, 16),
    ]


def test_top_block_takes_a_level_or_a_feature_of_the_backbone():
    class Above(LastLevelMaxPool):
        def __init__(self, in_feature: str):
            super().__init__()
            self.in_feature = in_feature

    levels = pass_through(FPN(Strided(), ["s4", "s8"], 2, top_block=Above("p2")))(
        torch.zeros(1, 3, 32, 32)
    )
    assert levels["p4"].unique().tolist() == [2.0]  # p2 is 1 + 1
    levels = pass_through(FPN(Strided(), ["s4", "s8"], 2, top_block=Above("s8")))(
        torch.zeros(1, 3, 32, 32)
    )
    assert levels["p4"].unique().tolist() == [1.0]


def test_p6_and_p7_halve_twice():
    p6, p7 = LastLevelP6P7(2, 4, "res5")(torch.zeros(1, 2, 8, 12))
    assert (p6.shape, p7.shape) == ((1, 4, 4, 6), (1, 4, 2, 3))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"in_features": ["s4", "s5"]}, r"'s5'.*\['s4', 's8', 's16'\]"),
        ({"in_features": ["s4", "s16"]}, r"double.*strides \[4, 16\]"),
        ({"in_features": []}, "at least one"),
        ({"in_features": ["s4"], "fuse_type": "max"}, "'max'.*avg"),
        ({"in_features": ["s8"], "top_block": LastLevelMaxPool()}, r"'p5'.*'s16', 'p3'\]"),
    ],
)
def test_pyramids_that_cannot_be_built(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        FPN(Strided(), out_channels=2, **kwargs)


def test_strides_must_be_powers_of_two():
    with pytest.raises(ValueError, match="powers of 2"):
        FPN(Strided((3, 6)), ["s3", "s6"], 2)


def test_config_with_unknown_features_names_the_key():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4"]
    with torch.device("meta"), pytest.raises(ValueError, match=r"MODEL.FPN.IN_FEATURES.*'res3'"):
        build_backbone(cfg)
