"""The pyramid of RetinaFace, with an SSH context module on each level."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.modeling import BACKBONE_REGISTRY, Backbone
from d2lite.modeling.backbone.backbone import select_features

from .mobilenet import conv_norm


class ContextPyramid(Backbone):
    """Feature pyramid whose levels see a wide context; the level with stride 2**k is called "pk".

    It differs from `FPN`: all convolutions are followed by a norm and an activation, the top level
    has no output convolution, and the result of a level's output convolution is passed on to the
    level below. It takes images of any size.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "BN",
        negative_slope: float = 0.0,
    ):
        """
        Args:
            bottom_up: backbone with `in_features`.
            in_features: names of features, from high to low resolution.
            out_channels: channels of every level; a multiple of 4.
            norm: norm after every convolution, see `get_norm`.
            negative_slope: slope of the activations below 0; 0 is ReLU.
        Raises:
            ValueError: a feature is unknown, strides do not double, or `out_channels` is not a
                multiple of 4.
        """
        super().__init__()
        shapes = select_features(bottom_up.output_shape(), in_features, "MODEL.FPN.IN_FEATURES")
        strides = [shape.stride for shape in shapes]
        if any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(
                f"MODEL.FPN.IN_FEATURES {list(in_features)} have strides {strides}; each must "
                "have twice the stride of the one before"
            )
        act = nn.LeakyReLU(negative_slope)
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self.laterals = nn.ModuleList(
            conv_norm(shape.channels, out_channels, 1, norm, act) for shape in shapes
        )
        self.merges = nn.ModuleList(
            conv_norm(out_channels, out_channels, 3, norm, act) for _ in shapes[:-1]
        )
        self.contexts = nn.ModuleList(SSHContext(out_channels, norm, act) for _ in shapes)
        self._out_features = [f"p{stride.bit_length() - 1}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, C, H, W) images to "p3", ...: (N, out_channels, ceil(H / stride), ...)."""
        bottom_up = self.bottom_up(x)
        sources = [bottom_up[name] for name in self.in_features]
        levels = [lateral(x) for lateral, x in zip(self.laterals, sources, strict=True)]
        for i in reversed(range(len(self.merges))):
            above = F.interpolate(levels[i + 1], size=levels[i].shape[-2:], mode="nearest")
            levels[i] = self.merges[i](levels[i] + above)
        levels = [context(x) for context, x in zip(self.contexts, levels, strict=True)]
        return dict(zip(self._out_features, levels, strict=True))


class SSHContext(nn.Module):
    """Parallel convolutions that see 3x3, 5x5 and 7x7 cells (SSH, Najibi et al. 2017, sec. 3.3).

    The larger ones are made of 3x3 convolutions and share the first one. Half of the output
    channels come from the smallest, a quarter from each of the others.
    """

    def __init__(self, channels: int, norm: str, activation: nn.Module):
        """channels: channels of input and output, a multiple of 4."""
        super().__init__()
        if channels % 4:
            raise ValueError(f"MODEL.FPN.OUT_CHANNELS is {channels}; use a multiple of 4")
        half, quarter = channels // 2, channels // 4
        self.conv3x3 = conv_norm(channels, half, 3, norm, None)
        self.shared = conv_norm(channels, quarter, 3, norm, activation)
        self.conv5x5 = conv_norm(quarter, quarter, 3, norm, None)
        self.conv7x7_1 = conv_norm(quarter, quarter, 3, norm, activation)
        self.conv7x7_2 = conv_norm(quarter, quarter, 3, norm, None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        shared = self.shared(x)
        wide = self.conv7x7_2(self.conv7x7_1(shared))
        return F.relu(torch.cat([self.conv3x3(x), self.conv5x5(shared), wide], dim=1))


@BACKBONE_REGISTRY.register()
def build_context_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ContextPyramid:
    """Build the pyramid of MODEL.FPN on MODEL.RETINAFACE.BOTTOM_UP."""
    bottom_up = BACKBONE_REGISTRY.get(cfg.MODEL.RETINAFACE.BOTTOM_UP)(cfg, input_shape)
    return ContextPyramid(
        bottom_up,
        cfg.MODEL.FPN.IN_FEATURES,
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        negative_slope=cfg.MODEL.RETINAFACE.NEGATIVE_SLOPE,
    )
