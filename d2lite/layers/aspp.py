"""Atrous spatial pyramid pooling."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from d2lite.layers.batch_norm import get_norm
from d2lite.layers.blocks import DepthwiseSeparableConv2d
from d2lite.layers.wrappers import Conv2d
from d2lite.utils.errors import ArgumentError


class ASPP(nn.Module):
    """Parallel convolutions of several dilations and a pooled branch (DeepLab v3, sec. 3.3)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int],
        *,
        norm: str | Callable | None,
        activation: Callable[[Tensor], Tensor] | None,
        pool_kernel_size: Sequence[int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ):
        """Build five branches, whose order in `convs` is fixed by released weights.

        Args:
            dilations: of the three 3 x 3 branches.
            norm: name of the norm, see `get_norm`; "" for convolutions with a bias instead.
            activation: after every convolution; modules are copied.
            pool_kernel_size: (height, width) of the average pool of the last branch; None pools
                the whole map. For a map of the size seen in training, both should be the same.
            dropout: share of the result to drop in training.
            use_depthwise_separable_conv: for the 3 x 3 branches.
        """
        super().__init__()
        if len(dilations) != 3:
            raise ArgumentError(f"ASPP takes 3 dilations, got {list(dilations)}")
        self.pool_kernel_size = pool_kernel_size
        self.dropout = dropout
        conv = partial(_conv, norm=norm, activation=activation)
        atrous = conv
        if use_depthwise_separable_conv:
            atrous = partial(_separable_conv, norm=norm, activation=activation)
        self.convs = nn.ModuleList([conv(in_channels, out_channels, kernel_size=1)])
        for dilation in dilations:
            branch = atrous(
                in_channels, out_channels, kernel_size=3, padding=dilation, dilation=dilation
            )
            self.convs.append(branch)
        # A norm would see a single position per image here, which it cannot normalize.
        pooled = _conv(in_channels, out_channels, kernel_size=1, norm="", activation=activation)
        average = nn.AdaptiveAvgPool2d(1)
        if pool_kernel_size is not None:
            average = nn.AvgPool2d(kernel_size=pool_kernel_size, stride=1)
        self.convs.append(nn.Sequential(average, pooled))
        self.project = conv(5 * out_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W).

        Raises:
            ValueError: (H, W) is smaller than `pool_kernel_size` or, in training, not a multiple
                of it.
        """
        size = x.shape[-2:]
        self._check_size(size)
        branches = [conv(x) for conv in self.convs]
        branches[-1] = F.interpolate(branches[-1], size=size, mode="bilinear", align_corners=False)
        x = self.project(torch.cat(branches, dim=1))
        return F.dropout(x, self.dropout, self.training) if self.dropout > 0 else x

    def _check_size(self, size: Sequence[int]) -> None:
        pool = self.pool_kernel_size
        if pool is None:
            return
        if self.training and any(s % k for s, k in zip(size, pool, strict=True)):
            raise ValueError(
                f"ASPP got a map of {tuple(size)} (H, W), which pool_kernel_size {tuple(pool)} "
                "does not divide; change the training crop size"
            )
        if any(s < k for s, k in zip(size, pool, strict=True)):
            raise ValueError(
                f"ASPP got a map of {tuple(size)} (H, W), which is smaller than pool_kernel_size "
                f"{tuple(pool)}; the image must be at least as large as the training crops "
                "(INPUT.CROP.SIZE): see INPUT.MIN_SIZE_TEST"
            )


def _conv(in_channels, out_channels, *, norm, activation, **kwargs) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
        activation=deepcopy(activation),
        **kwargs,
    )
    weight_init.c2_xavier_fill(conv)
    return conv


def _separable_conv(in_channels, out_channels, *, norm, activation, **kwargs):
    return DepthwiseSeparableConv2d(
        in_channels,
        out_channels,
        norm1=norm,
        activation1=deepcopy(activation),
        norm2=norm,
        activation2=deepcopy(activation),
        **kwargs,
    )
