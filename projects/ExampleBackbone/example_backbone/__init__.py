"""A backbone in one file: the template of projects/README.md.

Four stages of residual blocks, each with a depthwise 5x5 convolution and two 1x1 ones: small enough
to train from scratch on a CPU.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import Conv2d, ShapeSpec, get_norm
from d2lite.modeling import BACKBONE_REGISTRY, FPN, Backbone
from d2lite.modeling.backbone.fpn import LastLevelMaxPool, build_fpn
from d2lite.utils.registry import check_choices

__all__ = [
    "ExampleBackbone",
    "MixingBlock",
    "add_example_backbone_config",
    "build_example_backbone",
    "build_example_fpn_backbone",
]


def add_example_backbone_config(cfg: CfgNode) -> None:
    """Add MODEL.EXAMPLE_BACKBONE. The function is found by its name, `add_<package>_config`."""
    example = cfg.MODEL.EXAMPLE_BACKBONE = CfgNode()
    # Channels of the four stages, with strides 4, 8, 16 and 32.
    example.CHANNELS = [32, 64, 128, 256]
    # Blocks of each stage.
    example.BLOCKS = [1, 1, 2, 1]
    # Normalization of all convolutions, see d2lite.layers.get_norm.
    example.NORM = "BN"
    # Features to return. Without a pyramid, the last one is enough: ["res5"].
    example.OUT_FEATURES = ["res2", "res3", "res4", "res5"]


class ExampleBackbone(Backbone):
    """Backbone with features "res2" to "res5", with strides 4 to 32."""

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        norm: str = "BN",
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
    ):
        """
        Args:
            in_channels: channels of the images.
            channels, blocks: channels and number of blocks, one value for each stage.
            norm: see `get_norm`.
            out_features: names of the features to return.
        Raises:
            ValueError: a feature is unknown, or the lengths of `channels` and `blocks` differ.
        """
        super().__init__()
        if len(channels) != len(blocks):
            raise ValueError(
                f"MODEL.EXAMPLE_BACKBONE has {len(channels)} CHANNELS and {len(blocks)} BLOCKS; "
                "both need one value for each stage"
            )
        names = [f"res{i + 2}" for i in range(len(channels))]
        check_choices("MODEL.EXAMPLE_BACKBONE.OUT_FEATURES", out_features, names)
        for name, width, depth in zip(names, channels, blocks, strict=True):
            # The first stage divides the image by 4, each other one by 2.
            shrink = 4 if name == names[0] else 2
            down = Conv2d(in_channels, width, shrink, stride=shrink, norm=get_norm(norm, width))
            self.add_module(
                name, nn.Sequential(down, *(MixingBlock(width, norm) for _ in range(depth)))
            )
            in_channels = width
        self._names = names
        # `Backbone.output_shape` reports these to detectors.
        self._out_features = list(out_features)
        self._out_feature_channels = dict(zip(names, channels, strict=True))
        self._out_feature_strides = {name: 4 * 2**i for i, name in enumerate(names)}

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this, so that no stage drops a border."""
        return self._out_feature_strides[self._names[-1]]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, C, H, W) images to the features, (N, Ci, H / stride_i, W / stride_i), by name."""
        features = {}
        for name in self._names:
            features[name] = x = self.get_submodule(name)(x)
        return {name: features[name] for name in self._out_features}


class MixingBlock(nn.Module):
    """Residual block of a depthwise convolution and two 1x1 ones, which mix the channels."""

    def __init__(self, channels: int, norm: str):
        """channels: number of channels of input and output."""
        super().__init__()
        self.spatial = Conv2d(
            channels, channels, 5, padding=2, groups=channels, norm=get_norm(norm, channels)
        )
        self.expand = Conv2d(channels, 2 * channels, 1, activation=F.gelu)
        self.project = Conv2d(2 * channels, channels, 1, norm=get_norm(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.project(self.expand(self.spatial(x)))


@BACKBONE_REGISTRY.register()
def build_example_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ExampleBackbone:
    """Build the backbone that MODEL.EXAMPLE_BACKBONE describes."""
    example = cfg.MODEL.EXAMPLE_BACKBONE
    return ExampleBackbone(
        in_channels=input_shape.channels,
        channels=example.CHANNELS,
        blocks=example.BLOCKS,
        norm=example.NORM,
        out_features=example.OUT_FEATURES,
    )


@BACKBONE_REGISTRY.register()
def build_example_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build the backbone with a feature pyramid, p2 to p6, as Faster R-CNN needs it."""
    return build_fpn(cfg, build_example_backbone(cfg, input_shape), LastLevelMaxPool())
