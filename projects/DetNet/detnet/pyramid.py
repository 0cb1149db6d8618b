"""A feature pyramid with levels of equal stride (DetNet, fig. 1)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor

from d2lite.config import CfgNode
from d2lite.layers import Conv2d, ShapeSpec, conv_with_norm
from d2lite.modeling import BACKBONE_REGISTRY, Backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.backbone.fpn import FUSE_TYPES
from d2lite.utils.registry import check_choice

from .backbone import build_detnet_backbone


class DetNetFPN(Backbone):
    """FPN whose levels have the stride of the level below or twice that.

    If strides are equal, the upper level is added without enlarging it. Levels are numbered from
    log2 of the first stride: "p2" to "p6" with strides 4, 8, 16, 16, 16. Parameters have the names
    of those in `FPN`.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        fuse_type: str = "sum",
    ):
        """Add lateral and output convolutions to `bottom_up`.

        Args:
            in_features: names of its features, from high to low resolution.
            out_channels: channels of every level.
            norm: norm of the convolutions, see `layers.get_norm`.
            fuse_type: "sum" or "avg" of the lateral and the upper level.
        Raises:
            ValueError: a feature or the fuse type is unknown, or strides neither stay the same nor
                double.
        """
        super().__init__()
        shapes = select_features(bottom_up.output_shape(), in_features, "MODEL.FPN.IN_FEATURES")
        strides = [shape.stride for shape in shapes]
        _check_strides(in_features, strides)
        check_choice("MODEL.FPN.FUSE_TYPE", fuse_type, FUSE_TYPES)
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self._average = fuse_type == "avg"
        # For each level except the top: the factor by which the level above is enlarged.
        self._growth = [above // own for own, above in pairwise(strides)]
        self._size_divisibility = strides[-1]
        first = int(math.log2(strides[0]))
        self._levels = range(first, first + len(strides))
        for level, shape in zip(self._levels, shapes, strict=True):
            self.add_module(f"fpn_lateral{level}", _conv(shape.channels, out_channels, 1, norm))
            self.add_module(f"fpn_output{level}", _conv(out_channels, out_channels, 3, norm))
        self._out_features = [f"p{level}" for level in self._levels]
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, C, H, W) images to "p2", "p3", ...: (N, out_channels, H / stride, W / stride)."""
        bottom_up = self.bottom_up(x)
        laterals = [
            self.get_submodule(f"fpn_lateral{level}")(bottom_up[name])
            for level, name in zip(self._levels, self.in_features, strict=True)
        ]
        merged = [laterals.pop()]  # the top first
        for lateral, growth in zip(reversed(laterals), reversed(self._growth), strict=True):
            above = merged[-1]
            if growth > 1:
                above = F.interpolate(above, scale_factor=float(growth), mode="nearest")
            total = lateral + above
            merged.append(total / 2 if self._average else total)
        return {
            f"p{level}": self.get_submodule(f"fpn_output{level}")(level_features)
            for level, level_features in zip(self._levels, reversed(merged), strict=True)
        }

    @property
    def size_divisibility(self) -> int:
        """The largest stride, so that the size of every level is exact."""
        return self._size_divisibility


@BACKBONE_REGISTRY.register()
def build_detnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DetNetFPN:
    """Build a DetNet with a level for each of MODEL.FPN.IN_FEATURES, and none above them."""
    return DetNetFPN(
        build_detnet_backbone(cfg, input_shape),
        cfg.MODEL.FPN.IN_FEATURES,
        cfg.MODEL.FPN.OUT_CHANNELS,
        cfg.MODEL.FPN.NORM,
        cfg.MODEL.FPN.FUSE_TYPE,
    )


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    conv = conv_with_norm(in_channels, out_channels, kernel_size, norm=norm)
    weight_init.c2_xavier_fill(conv)
    return conv


def _check_strides(in_features: Sequence[str], strides: Sequence[int]) -> None:
    if not in_features:
        raise ValueError("MODEL.FPN.IN_FEATURES is empty; name features of the backbone")
    if not all(above in (own, 2 * own) for own, above in pairwise(strides)):
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES {list(in_features)} have strides {list(strides)}; each must be "
            "equal to the one before, or twice that"
        )
