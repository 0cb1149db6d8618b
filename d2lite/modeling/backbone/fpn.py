"""Feature pyramid networks (Lin et al. 2017) on top of any backbone."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import Conv2d, ShapeSpec, conv_with_norm
from d2lite.modeling.backbone.backbone import Backbone, select_features
from d2lite.modeling.backbone.build import BACKBONE_REGISTRY
from d2lite.modeling.backbone.resnet import build_resnet_backbone
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import check_choice

FUSE_TYPES = ("sum", "avg")


class FPN(Backbone):
    """Pyramid of a backbone's levels, of equal width and with context from coarser levels.

    The level of stride 2**k is called "pk".
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ):
        """Add lateral and output convolutions to `bottom_up`.

        Args:
            in_features: names of its features, from high to low resolution, each with twice the
                stride of the one before.
            top_block: makes `num_levels` further levels from its `in_feature`, which is a
                feature of `bottom_up` or a level of the pyramid.
            fuse_type: "sum" or "avg": how to combine a lateral level with the coarser one.
            square_pad: when positive, images are padded to a square of at least this side.
        Raises:
            ValueError: a feature or the fuse type is unknown, or the strides do not double.
        """
        super().__init__()
        shapes = select_features(bottom_up.output_shape(), in_features, "FPN in_features")
        strides = [shape.stride for shape in shapes]
        _check_pyramid(in_features, strides)
        check_choice("fuse_type", fuse_type, FUSE_TYPES)
        self.in_features = tuple(in_features)
        self._fuse_type = fuse_type
        self._square_pad = square_pad
        self._size_divisibility = strides[-1]

        # From the coarsest level down, in the order of use; the names contain the level.
        self.lateral_convs: list[Conv2d] = []
        self.output_convs: list[Conv2d] = []
        for shape in shapes:
            level = int(math.log2(shape.stride))
            lateral = conv_with_norm(shape.channels, out_channels, 1, norm=norm)
            output = conv_with_norm(out_channels, out_channels, 3, norm=norm)
            # Initialize after both are created: in this order, a seed gives detectron2's weights.
            weight_init.c2_xavier_fill(lateral)
            weight_init.c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
            self.lateral_convs.insert(0, lateral)
            self.output_convs.insert(0, output)
        # Registered last: optimizer states number the parameters in detectron2's order.
        self.top_block = top_block
        self.bottom_up = bottom_up
        extra = 0 if top_block is None else top_block.num_levels
        all_strides = strides + [strides[-1] * 2 ** (i + 1) for i in range(extra)]
        self._out_feature_strides = {f"p{int(math.log2(s))}": s for s in all_strides}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        if top_block is not None:
            sources = [*bottom_up.output_shape(), *self._out_features[: len(strides)]]
            if top_block.in_feature not in sources:
                raise ValueError(
                    f"FPN's {type(top_block).__name__} is made from {top_block.in_feature!r}, "
                    f"but there are only {sources}: add that level to the input features"
                )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) images -> "p2", "p3", ...: (N, out_channels, H / stride, W / stride)."""
        bottom_up = self.bottom_up(x)
        merged, levels = None, []
        for name, lateral, output in zip(
            reversed(self.in_features), self.lateral_convs, self.output_convs, strict=True
        ):
            # Top-down pathway: the coarser level, upsampled by 2, plus the lateral connection
            # (sec. 3, fig. 3).
            above, merged = merged, lateral(bottom_up[name])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    merged = merged / 2
            levels.insert(0, output(merged))
        if self.top_block is not None:
            source = self.top_block.in_feature
            if source not in bottom_up:
                source_level = levels[self._out_features.index(source)]
            else:
                source_level = bottom_up[source]
            levels.extend(self.top_block(source_level))
        return dict(zip(self._out_features, levels, strict=True))

    @property
    def size_divisibility(self) -> int:
        """The largest stride: every level then has exactly half the size of the one below."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The minimum side if images are padded to squares, or 0."""
        return {"square_size": self._square_pad}


class LastLevelMaxPool(nn.Module):
    """P6 as every second cell of P5, for the largest anchors of a region proposal network."""

    def __init__(self):
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> [(N, C, H / 2, W / 2)]."""
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class LastLevelP6P7(nn.Module):
    """P6 and P7 by convolutions with stride 2 (RetinaNet, Lin et al. 2017)."""

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5"):
        """in_feature: the feature that P6 is made from, with `in_channels`: "res5" or "p5"."""
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        weight_init.c2_xavier_fill(self.p6)
        weight_init.c2_xavier_fill(self.p7)

    def forward(self, c5: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> levels of half and a quarter of its size."""
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with FPN levels P2 to P5 and a pooled P6, as Faster R-CNN uses it."""
    return build_fpn(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with FPN levels P3 to P5 and convolved P6 and P7, as RetinaNet uses it."""
    return build_retinanet_fpn(cfg, build_resnet_backbone(cfg, input_shape))


def build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module | None) -> FPN:
    """Build the pyramid that MODEL.FPN describes, on any backbone."""
    settings = cfg.MODEL.FPN
    select_features(bottom_up.output_shape(), settings.IN_FEATURES, "MODEL.FPN.IN_FEATURES")
    check_choice("MODEL.FPN.FUSE_TYPE", settings.FUSE_TYPE, FUSE_TYPES)
    return FPN(
        bottom_up,
        settings.IN_FEATURES,
        settings.OUT_CHANNELS,
        settings.NORM,
        top_block,
        settings.FUSE_TYPE,
    )


def build_retinanet_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Build the pyramid of MODEL.FPN with P6 and P7 made from the backbone's res5."""
    (res5,) = select_features(bottom_up.output_shape(), ["res5"], "RetinaNet's P6")
    return build_fpn(cfg, bottom_up, LastLevelP6P7(res5.channels, cfg.MODEL.FPN.OUT_CHANNELS))


def _check_pyramid(in_features: Sequence[str], strides: Sequence[int]) -> None:
    if not in_features:
        raise ArgumentError("FPN needs at least one input feature: set MODEL.FPN.IN_FEATURES")
    doubling = all(b == 2 * a for a, b in pairwise(strides))
    if not doubling or 2 ** int(math.log2(strides[0])) != strides[0]:
        raise ArgumentError(
            f"FPN needs features whose strides are powers of 2 and double from one to the next; "
            f"{list(in_features)} have strides {list(strides)}"
        )
