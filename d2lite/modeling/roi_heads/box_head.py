"""Box heads: map the pooled features of a box to a feature vector."""

import math
from collections.abc import Sequence

from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import Conv2d, ShapeSpec, conv_with_norm
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import Registry

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD", config_key="MODEL.ROI_BOX_HEAD.NAME")
ROI_BOX_HEAD_REGISTRY.__doc__ = """Callables (cfg, input_shape: ShapeSpec) -> nn.Module.

The module takes (R, C, H, W) pooled features and has an `output_shape: ShapeSpec`.
"""


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head named by MODEL.ROI_BOX_HEAD.NAME."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then fully connected layers, a ReLU after each."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str = "",
    ):
        """Describe the layers.

        Args:
            input_shape: channels, height and width of the pooled features.
            conv_dims: channels of the convolutions.
            fc_dims: widths of the fully connected layers.
            conv_norm: norm of the convolutions, see `layers.get_norm`.
        Raises:
            ValueError: the head has no layers.
        """
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ArgumentError(
                "FastRCNNConvFCHead without layers: set MODEL.ROI_BOX_HEAD.NUM_CONV or NUM_FC"
            )
        self._output_size: tuple[int, ...] = (
            input_shape.channels,
            input_shape.height,
            input_shape.width,
        )
        self.conv_norm_relus: list[Conv2d] = []
        for k, width in enumerate(conv_dims, 1):
            channels, *size = self._output_size
            relu = nn.ReLU(inplace=True)
            conv = conv_with_norm(channels, width, norm=conv_norm, activation=relu)
            self.add_module(f"conv{k}", conv)
            self.conv_norm_relus.append(conv)
            self._output_size = (width, *size)
        self.fcs: list[nn.Linear] = []
        for k, width in enumerate(fc_dims, 1):
            if k == 1:
                self.add_module("flatten", nn.Flatten())
            fc = nn.Linear(math.prod(self._output_size), width)
            self.add_module(f"fc{k}", fc)
            self.add_module(f"fc_relu{k}", nn.ReLU(inplace=True))
            self.fcs.append(fc)
            self._output_size = (width,)
        # Initialize after all layers are created: in this order, a seed gives detectron2's weights.
        for conv in self.conv_norm_relus:
            weight_init.c2_msra_fill(conv)
        for fc in self.fcs:
            weight_init.c2_xavier_fill(fc)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Use equal widths for all convolutions and for all fully connected layers."""
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> (R, fc_dims[-1]), or (R, conv_dims[-1], H, W) without fully connected."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels of the output; also height and width if the last layer is a convolution."""
        if len(self._output_size) == 1:
            return ShapeSpec(channels=self._output_size[0])
        channels, height, width = self._output_size
        return ShapeSpec(channels=channels, height=height, width=width)
