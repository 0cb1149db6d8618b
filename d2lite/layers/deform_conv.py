"""Deformable convolutions, on torchvision's operator (which also trains on the CPU)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

from d2lite.utils.errors import ArgumentError


class DeformConv(nn.Module):
    """Convolution whose sampling points are moved by learned offsets (Dai et al. 2017)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        """Accept the arguments of `torch.nn.Conv2d`, and these.

        Args:
            deformable_groups: number of groups of input channels that share their offsets.
            bias: must be False; `ModulatedDeformConv` has one.
            norm: applied to the result, or None.
            activation: applied last, or None.
        Raises:
            ValueError: `bias` is True, or a number of channels is not a multiple of `groups`.
        """
        super().__init__()
        if bias:
            raise ArgumentError(
                "DeformConv has no bias; pass bias=False or use ModulatedDeformConv"
            )
        _set_geometry(self, in_channels, out_channels, groups, deformable_groups)
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve at points moved by the offsets.

        Args:
            x: (N, in_channels, H, W).
            offset: (N, deformable_groups * kernel_h * kernel_w * 2, H', W') in input cells: for
                each point of the kernel, row by row, its (dy, dx).
        Returns:
            (N, out_channels, H', W').
        """
        return _apply(self, x, offset, mask=None)

    def extra_repr(self) -> str:
        return f"{_describe(self)}, bias=False"


class ModulatedDeformConv(nn.Module):
    """Deformable convolution that also weights every sampling point (Zhu et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        """Accept the arguments of `torch.nn.Conv2d`, and these.

        Args:
            deformable_groups: number of groups of input channels that share offsets and masks.
            norm: applied to the result, or None.
            activation: applied last, or None.
        Raises:
            ValueError: a number of channels is not a multiple of `groups`.
        """
        super().__init__()
        _set_geometry(self, in_channels, out_channels, groups, deformable_groups)
        self.kernel_size = _pair(kernel_size)
        # Code written for detectron2 reads these as they were passed, as a number or a pair.
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.with_bias = bias
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve at points moved by the offsets and weighted by the mask.

        Args:
            x: (N, in_channels, H, W).
            offset: (N, deformable_groups * kernel_h * kernel_w * 2, H', W') in input cells: for
                each point of the kernel, row by row, its (dy, dx).
            mask: (N, deformable_groups * kernel_h * kernel_w, H', W') weights, usually in [0, 1].
        Returns:
            (N, out_channels, H', W').
        """
        return _apply(self, x, offset, mask)

    def extra_repr(self) -> str:
        return f"{_describe(self)}, bias={self.with_bias}"


def _set_geometry(conv, in_channels, out_channels, groups, deformable_groups) -> None:
    for name, channels, divisor in (
        ("in_channels", in_channels, groups),
        ("out_channels", out_channels, groups),
    ):
        if channels % divisor:
            raise ArgumentError(f"{name} {channels} is not a multiple of its {divisor} groups")
    conv.in_channels, conv.out_channels = in_channels, out_channels
    conv.groups, conv.deformable_groups = groups, deformable_groups


def _apply(conv, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
    points = conv.deformable_groups * math.prod(conv.kernel_size)
    if conv.in_channels % conv.deformable_groups:
        raise ValueError(
            f"in_channels {conv.in_channels} is not a multiple of its {conv.deformable_groups} "
            "deformable groups"
        )
    if offset.shape[1] != 2 * points:
        raise ValueError(f"offset has {offset.shape[1]} channels, this layer needs {2 * points}")
    x = deform_conv2d(
        x,
        offset,
        conv.weight,
        conv.bias,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        mask=mask,
    )
    if conv.norm is not None:
        x = conv.norm(x)
    return x if conv.activation is None else conv.activation(x)


def _describe(conv) -> str:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    names += ("groups", "deformable_groups")
    return ", ".join(f"{name}={getattr(conv, name)}" for name in names)
