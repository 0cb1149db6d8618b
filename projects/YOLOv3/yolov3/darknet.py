"""Darknet-53 (YOLOv3, table 1), at any width and depth."""

from collections.abc import Sequence

from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from d2lite.modeling import BACKBONE_REGISTRY, Backbone
from d2lite.utils.registry import check_choices

NEGATIVE_SLOPE = 0.1


def conv_block(
    in_channels: int, out_channels: int, kernel_size: int, norm: str, stride: int = 1
) -> Conv2d:
    """Return a padded convolution with its norm and LeakyReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    )
    nn.init.kaiming_normal_(conv.weight, a=NEGATIVE_SLOPE)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ResidualBlock(nn.Module):
    """Residual block of a 1x1 convolution to half the channels and a 3x3 one back."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = conv_block(channels, channels // 2, 1, norm)
        self.conv2 = conv_block(channels // 2, channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.conv2(self.conv1(x))


class Darknet(Backbone):
    """Stem and five stages, each of which halves the size and doubles the channels.

    Its features are "res1" to "res5", with stride 2 to 32. Convolutions are in the order of
    Darknet's files.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: float = 1.0,
        blocks: Sequence[int] = (1, 2, 8, 8, 4),
        norm: str = "BN",
        out_features: Sequence[str] = ("res3", "res4", "res5"),
        freeze_at: int = 0,
    ):
        """
        Args:
            in_channels: channels of the images.
            width: factor on the channels, which are 32 in the stem and 1024 at the end.
            blocks: number of residual blocks in each stage.
            norm: see `get_norm`.
            out_features: names of the features to return.
            freeze_at: number of parts (stem and stages) that are not trained; their batch norms are
                frozen.
        Raises:
            ValueError: a setting is not possible; the message names it.
        """
        super().__init__()
        if width <= 0:
            raise ValueError(f"MODEL.DARKNET.WIDTH is {width}; it must be above 0")
        if len(blocks) != 5 or min(blocks) < 0:
            raise ValueError(
                f"MODEL.DARKNET.BLOCKS is {blocks}; give five numbers, one for each stage"
            )
        names = [f"res{i}" for i in range(1, 6)]
        check_choices("MODEL.DARKNET.OUT_FEATURES", out_features, names)
        channels = scaled(32, width)
        self.stem = conv_block(in_channels, channels, 3, norm)
        self._out_feature_channels, self._out_feature_strides = {}, {}
        for i, number in enumerate(blocks, 1):
            out_channels = scaled(32 << i, width)
            down = conv_block(channels, out_channels, 3, norm, stride=2)
            residuals = (ResidualBlock(out_channels, norm) for _ in range(number))
            self.add_module(f"stage{i}", nn.Sequential(down, *residuals))
            channels = self._out_feature_channels[f"res{i}"] = out_channels
            self._out_feature_strides[f"res{i}"] = 1 << i
        self._out_features = list(out_features)
        for part in [self.stem, *self.stages][:freeze_at]:
            part.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(part)

    @property
    def stages(self) -> list[nn.Module]:
        """The five stages, in order."""
        return [getattr(self, f"stage{i}") for i in range(1, 6)]

    @property
    def size_divisibility(self) -> int:
        """The largest stride, so that the sizes of neighboring features match."""
        return max(self._out_feature_strides[name] for name in self._out_features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, C, H, W) to the features by name, (N, Ci, H / stride, W / stride)."""
        x = self.stem(x)
        features = {}
        for i, stage in enumerate(self.stages, 1):
            features[f"res{i}"] = x = stage(x)
        return {name: features[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_darknet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Darknet:
    """Build Darknet with the settings of MODEL.DARKNET."""
    darknet = cfg.MODEL.DARKNET
    return Darknet(
        in_channels=input_shape.channels,
        width=darknet.WIDTH,
        blocks=darknet.BLOCKS,
        norm=darknet.NORM,
        out_features=darknet.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def scaled(channels: int, width: float) -> int:
    """Return channels times width, rounded to a multiple of 8."""
    return max(round(channels * width / 8), 1) * 8
