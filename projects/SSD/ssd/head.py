"""Prediction heads of SSD: a small convolution for each level, for classes and for boxes.

Parameters have torchvision's names.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from d2lite.utils.registry import Registry

SSD_HEAD_REGISTRY = Registry("SSD_HEAD", config_key="MODEL.SSD.HEAD")
SSD_HEAD_REGISTRY.__doc__ = "Callables (in_channels, num_anchors, num_classes) -> nn.Module."


class _ByLevel(nn.Module):
    """A separate module for each level."""

    def __init__(self, modules: Sequence[nn.Module]):
        super().__init__()
        self.module_list = nn.ModuleList(modules)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [module(x) for module, x in zip(self.module_list, features, strict=True)]


class _Head(nn.Module):
    def __init__(
        self,
        predict: Callable[[int, int], nn.Module],
        in_channels: Sequence[int],
        num_anchors: Sequence[int],
        num_classes: int,
    ):
        """predict: builds the module of a level from its numbers of input and output channels."""
        super().__init__()
        levels = list(zip(in_channels, num_anchors, strict=True))
        self.classification_head = _ByLevel([predict(c, a * (num_classes + 1)) for c, a in levels])
        self.regression_head = _ByLevel([predict(c, a * 4) for c, a in levels])

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return (N, A*(K+1), Hi, Wi) logits and (N, A*4, Hi, Wi) deltas of each level."""
        return self.classification_head(features), self.regression_head(features)


@SSD_HEAD_REGISTRY.register()
class SSDHead(_Head):
    """Head with a 3x3 convolution for each level; in the logits, the background comes first."""

    def __init__(self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int):
        """in_channels, num_anchors: per level. num_classes: K, without the background."""
        conv = partial(nn.Conv2d, kernel_size=3, padding=1)
        super().__init__(conv, in_channels, num_anchors, num_classes)
        _init_convs(self, nn.init.xavier_uniform_)


@SSD_HEAD_REGISTRY.register()
class SSDLiteHead(_Head):
    """Head with a depthwise and a pointwise convolution per level (MobileNetV2, sec. 6.2)."""

    def __init__(self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int):
        """See `SSDHead`."""
        super().__init__(_separable, in_channels, num_anchors, num_classes)
        _init_convs(self, partial(nn.init.normal_, std=0.03))


def _separable(channels: int, out_channels: int) -> nn.Sequential:
    depthwise = Conv2dNormActivation(
        channels,
        channels,
        kernel_size=3,
        groups=channels,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03),
        activation_layer=nn.ReLU6,
    )
    return nn.Sequential(depthwise, nn.Conv2d(channels, out_channels, kernel_size=1))


def _init_convs(head: nn.Module, init: Callable[[Tensor], Tensor]) -> None:
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            init(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
