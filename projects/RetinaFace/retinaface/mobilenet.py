"""MobileNetV1 (Howard et al. 2017, https://arxiv.org/abs/1704.04861) at any width."""

from collections.abc import Sequence

from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import Conv2d, ShapeSpec, get_norm
from d2lite.modeling import BACKBONE_REGISTRY, Backbone

# Channels at width 1, and stride, of the blocks of each stage (table 1).
STAGES = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
STEM_CHANNELS = 32


class MobileNetV1(Backbone):
    """Stem and 13 depthwise separable blocks with the features "res3" to "res5" (strides 8 to 32).

    The stem belongs to the first of its three stages, `stage1`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: float = 0.25,
        norm: str = "BN",
        negative_slope: float = 0.0,
        out_features: Sequence[str] = ("res3", "res4", "res5"),
    ):
        """
        Args:
            in_channels: channels of the images.
            width: factor on all channels.
            norm: norm after every convolution, see `get_norm`.
            negative_slope: slope of the activations below 0; 0 is ReLU.
            out_features: names of the features to return.
        """
        super().__init__()
        names = [f"res{i}" for i in range(3, 6)]
        unknown = [name for name in out_features if name not in names]
        if unknown:
            raise ValueError(f"MobileNetV1 has no feature {unknown[0]!r}; it has {names}")
        act = nn.LeakyReLU(negative_slope)
        channels = round(STEM_CHANNELS * width)
        layers: list[nn.Module] = [conv_norm(in_channels, channels, 3, norm, act, stride=2)]
        self._out_feature_channels = {}
        for i, blocks in enumerate(STAGES):
            for full_width, stride in blocks:
                out_channels = round(full_width * width)
                layers.append(SeparableBlock(channels, out_channels, stride, norm, act))
                channels = out_channels
            self.add_module(f"stage{i + 1}", nn.Sequential(*layers))
            self._out_feature_channels[names[i]] = channels
            layers = []
        self._out_feature_strides = {name: 8 * 2**i for i, name in enumerate(names)}
        self._out_features = list(out_features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, C, H, W) to features by name, (N, Ci, ceil(H / stride), ceil(W / stride))."""
        features = {}
        for name, stage in zip(
            self._out_feature_strides, (self.stage1, self.stage2, self.stage3), strict=True
        ):
            features[name] = x = stage(x)
        return {name: features[name] for name in self._out_features}


class SeparableBlock(nn.Module):
    """Depthwise 3x3 convolution followed by a 1x1 convolution, each with a norm."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, norm: str, activation: nn.Module
    ):
        super().__init__()
        self.depthwise = conv_norm(
            in_channels, in_channels, 3, norm, activation, stride=stride, groups=in_channels
        )
        self.pointwise = conv_norm(in_channels, out_channels, 1, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.pointwise(self.depthwise(x))


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: str,
    activation: nn.Module | None,
    stride: int = 1,
    groups: int = 1,
) -> Conv2d:
    """Return a padded convolution with a norm and an activation."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=activation,
    )


@BACKBONE_REGISTRY.register()
def build_mobilenet_v1_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MobileNetV1:
    """Build MobileNetV1 with MODEL.RETINAFACE.MOBILENET_WIDTH and all three features."""
    return MobileNetV1(
        in_channels=input_shape.channels,
        width=cfg.MODEL.RETINAFACE.MOBILENET_WIDTH,
        negative_slope=cfg.MODEL.RETINAFACE.NEGATIVE_SLOPE,
    )
