"""The stem and the residual blocks of ResNet (He et al. 2016) and its descendants."""

from functools import partial

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.layers import (
    CNNBlockBase,
    Conv2d,
    DeformConv,
    ModulatedDeformConv,
    conv_with_norm,
    get_norm,
)

ResNetBlockBase = CNNBlockBase

# Released weights have no biases even in a network without norms.
_conv = partial(conv_with_norm, bias=False)


class BasicStem(CNNBlockBase):
    """A 7x7 convolution and a 3x3 max pooling, each with stride 2."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: str = "BN"):
        """norm: any name or callable that `layers.get_norm` takes."""
        super().__init__(in_channels, out_channels, stride=4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm=norm, stride=2)
        _init_convs(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / 4, W / 4)."""
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions with a shortcut: the block of ResNet-18 and ResNet-34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN"):
        """stride: of the first convolution."""
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm=norm, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, 3, norm=norm)
        _init_convs(self.conv1, self.conv2, self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = self.conv2(F.relu_(self.conv1(x)))
        return _add_shortcut(out, x, self.shortcut)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolutions with a shortcut: the block of ResNet-50+ and ResNeXt."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ):
        """Describe the three convolutions.

        Args:
            bottleneck_channels: width of the 3x3 convolution.
            num_groups: groups of the 3x3 convolution (ResNeXt).
            stride_in_1x1: whether the first convolution has the stride (MSRA weights), not the
                3x3 one (torchvision weights).
            dilation: of the 3x3 convolution.
        """
        super().__init__(in_channels, out_channels, stride)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm=norm, stride=stride_1x1)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm=norm,
            stride=stride_3x3,
            dilation=dilation,
            groups=num_groups,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm=norm)
        _init_convs(self.conv1, self.conv2, self.conv3, self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = F.relu_(self.conv1(x))
        out = self.conv3(F.relu_(self.conv2(out)))
        return _add_shortcut(out, x, self.shortcut)


class DeformBottleneckBlock(CNNBlockBase):
    """A bottleneck block whose 3x3 convolution is deformable (Dai et al. 2017, Zhu et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ):
        """Describe the layers; see `BottleneckBlock` for the other arguments.

        Args:
            deform_modulated: whether every sampling point also gets a weight (version 2).
            deform_num_groups: number of groups of channels; each has its own sampling points.
        """
        super().__init__(in_channels, out_channels, stride)
        self.deform_modulated = deform_modulated
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        geometry = {"stride": stride_3x3, "padding": dilation, "dilation": dilation}
        points = 9 * deform_num_groups
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm=norm, stride=stride_1x1)
        num_offsets = points * (3 if deform_modulated else 2)
        self.conv2_offset = Conv2d(bottleneck_channels, num_offsets, kernel_size=3, **geometry)
        # It predicts zeros at first, so that training starts from a plain convolution.
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)
        conv_class = ModulatedDeformConv if deform_modulated else DeformConv
        self.conv2 = conv_class(
            bottleneck_channels,
            bottleneck_channels,
            kernel_size=3,
            bias=False,
            groups=num_groups,
            deformable_groups=deform_num_groups,
            norm=get_norm(norm, bottleneck_channels),
            **geometry,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm=norm)
        _init_convs(self.conv1, self.conv2, self.conv3, self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = F.relu_(self.conv1(x))
        sampling = self.conv2_offset(out)
        if self.deform_modulated:
            # Two thirds of the channels move the points, the last third weights them.
            dy_or_dx_a, dy_or_dx_b, mask = sampling.chunk(3, dim=1)
            offset = torch.cat((dy_or_dx_a, dy_or_dx_b), dim=1)
            out = self.conv2(out, offset, mask.sigmoid())
        else:
            out = self.conv2(out, sampling)
        return _add_shortcut(self.conv3(F.relu_(out)), x, self.shortcut)


def _init_convs(*convs: nn.Module | None) -> None:
    """Initialize the convolutions of a block (He et al. 2015).

    Call it after all are created, with the shortcut last: in this order, a seed gives detectron2's
    weights.
    """
    for conv in convs:
        if conv is not None:
            weight_init.c2_msra_fill(conv)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> Conv2d | None:
    # A stride alone gets no projection: released weights have none for equal channels.
    if in_channels == out_channels:
        return None
    return _conv(in_channels, out_channels, 1, norm=norm, stride=stride)


def _add_shortcut(out: Tensor, x: Tensor, shortcut: nn.Module | None) -> Tensor:
    out += x if shortcut is None else shortcut(x)
    return F.relu_(out)
