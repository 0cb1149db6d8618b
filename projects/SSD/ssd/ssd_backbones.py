"""Backbones of SSD: a classification network, cut open, followed by more layers.

Parameters have torchvision's names.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import Conv2dNormActivation

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.modeling import BACKBONE_REGISTRY, Backbone
from d2lite.utils.registry import lookup

from .vgg import freeze_blocks, pooling_indices, vgg16_layers

# (inner channels, channels, kernel, stride, padding) of the convolutions after fc7. SSD300 ends
# without padding, with 5, 3 and 1 cells; SSD512 halves four times and ends with a kernel of 4.
EXTRA_300 = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0))
EXTRA_512 = ((256, 512, 3, 2, 1), *((128, 256, 3, 2, 1),) * 3, (128, 256, 4, 1, 1))

# Norms of SSDLite, as in torchvision.
_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)

MOBILENETS = {
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_large": models.mobilenet_v3_large,
    "mobilenet_v3_small": models.mobilenet_v3_small,
}


class SSDVGG(Backbone):
    """VGG-16 up to conv5_3, fc6 and fc7 as convolutions, and four or five more blocks.

    Its features are "conv4_3", whose vectors are scaled to a learned length (L2Norm, sec. 3.1),
    "fc7", "conv8_2" and so on.
    """

    def __init__(self, image_size: int = 300, freeze_at: int = 0):
        """
        Args:
            image_size: 300 or 512; the number of blocks depends on it.
            freeze_at: number of blocks of VGG-16 that are not trained.
        Raises:
            ValueError: the size is not one of these.
        """
        super().__init__()
        if image_size not in (300, 512):
            raise ValueError(
                f"MODEL.SSD.IMAGE_SIZE is {image_size}; SSD on VGG-16 takes 300 or 512"
            )
        layers = vgg16_layers()
        freeze_blocks(layers, freeze_at)
        _, _, pool3, pool4, pool5 = pooling_indices(layers)
        layers[pool3].ceil_mode = True  # 75 cells become 38
        self.features = layers[:pool4]
        self.scale_weight = nn.Parameter(torch.full((512,), 20.0))
        self.extra = nn.ModuleList([nn.Sequential(*layers[pool4:pool5], _fc6_fc7())])
        channels = [512, 1024]
        for inner, out, *shape in EXTRA_300 if image_size == 300 else EXTRA_512:
            block = nn.Sequential(
                nn.Conv2d(channels[-1], inner, kernel_size=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(inner, out, *shape),  # kernel, stride, padding
                nn.ReLU(inplace=True),
            )
            self.extra.append(block)
            channels.append(out)
        for module in (*self.extra[0][-1].modules(), *self.extra[1:].modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self._out_features = [
            *("conv4_3", "fc7"),
            *(f"conv{k}_2" for k in range(8, 8 + len(channels) - 2)),
        ]
        strides = [8, 16, 32, 64, 100, 300] if image_size == 300 else [8 << k for k in range(7)]
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, S, S) to features by name, (N, Ci, Hi, Hi); S is the image size."""
        x = self.features(x)
        maps = [F.normalize(x) * self.scale_weight.view(1, -1, 1, 1)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return dict(zip(self._out_features, maps, strict=True))


class SSDMobileNet(Backbone):
    """MobileNet cut open after the expansion of its last strided block, and four more blocks.

    Its features are "c4" (that expansion, stride 16), "c5" (the last feature, stride 32) and
    "extra1" to "extra4" (MobileNetV2, sec. 6.2, and MobileNetV3, sec. 6.3).
    """

    def __init__(
        self,
        arch: str = "mobilenet_v3_large",
        *,
        width_mult: float = 1.0,
        reduced_tail: bool = True,
    ):
        """
        Args:
            arch: a name of MOBILENETS.
            width_mult: factor on the channels of the network.
            reduced_tail: halve the channels of V3's last layers.
        Raises:
            ValueError: the architecture is unknown.
        """
        super().__init__()
        make = lookup("MODEL.SSD.MOBILENET_ARCH", arch, MOBILENETS)
        tail = {"reduced_tail": reduced_tail} if arch != "mobilenet_v2" else {}
        net = make(weights=None, width_mult=width_mult, norm_layer=_NORM, **tail)
        first, second, channels = cut_mobilenet(net.features)
        self.features = nn.Sequential(first, second)
        self.extra = nn.ModuleList()
        conv: Callable[..., nn.Module] = partial(
            Conv2dNormActivation, norm_layer=_NORM, activation_layer=nn.ReLU6
        )
        for out in (512, 256, 256, 128):
            # Reduce to half the channels, convolve depthwise with stride 2, expand to all channels.
            inner = out // 2
            block = nn.Sequential(
                conv(channels[-1], inner, kernel_size=1),
                conv(inner, inner, kernel_size=3, stride=2, groups=inner),
                conv(inner, out, kernel_size=1),
            )
            self.extra.append(block)
            channels.append(out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)
        self._out_features = ["c4", "c5", "extra1", "extra2", "extra3", "extra4"]
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))
        self._out_feature_strides = {name: 16 << k for k, name in enumerate(self._out_features)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, S, S) to features by name, (N, Ci, Hi, Hi)."""
        maps = []
        for block in (*self.features, *self.extra):
            x = block(x)
            maps.append(x)
        return dict(zip(self._out_features, maps, strict=True))


@BACKBONE_REGISTRY.register()
def build_ssd_vgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SSDVGG:
    """Build VGG-16 with SSD's layers for MODEL.SSD.IMAGE_SIZE."""
    return SSDVGG(cfg.MODEL.SSD.IMAGE_SIZE, cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_ssd_mobilenet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SSDMobileNet:
    """Build a MobileNet with SSDLite's layers."""
    ssd = cfg.MODEL.SSD
    return SSDMobileNet(
        ssd.MOBILENET_ARCH,
        width_mult=ssd.MOBILENET_WIDTH_MULT,
        reduced_tail=ssd.MOBILENET_REDUCED_TAIL,
    )


def _fc6_fc7() -> nn.Sequential:
    """Return fc6 and fc7 as convolutions; fc6 is dilated, because pool5 has stride 1."""
    return nn.Sequential(
        nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
        nn.Conv2d(512, 1024, kernel_size=3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, kernel_size=1),
        nn.ReLU(inplace=True),
    )


def cut_mobilenet(layers: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential, list[int]]:
    """Cut a MobileNet's features open after the expansion of their last strided block.

    Returns:
        Both parts, made of the given modules, and the channels of their outputs.
    """
    strided = max(
        i
        for i, layer in enumerate(layers)
        if any(m.stride[0] > 1 for m in layer.modules() if isinstance(m, nn.Conv2d))
    )
    # V2 and V3 have different names for the steps of a block.
    block = layers[strided]
    steps = block.conv if hasattr(block, "conv") else block.block
    first = nn.Sequential(*layers[:strided], steps[0])
    second = nn.Sequential(steps[1:], *layers[strided + 1 :])
    return first, second, [steps[0].out_channels, layers[-1].out_channels]
