"""Building blocks of convolutional networks."""

from collections.abc import Callable

from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.layers.batch_norm import FrozenBatchNorm2d, get_norm
from d2lite.layers.wrappers import Conv2d


class CNNBlockBase(nn.Module):
    """A block with known channels and stride that can be frozen."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        """stride: factor by which the block reduces height and width."""
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> "CNNBlockBase":
        """Stop training this block for good, and replace its batch norms by frozen ones."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


def conv_with_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    norm: str | Callable[[int], nn.Module] | None = "",
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: Callable[[Tensor], Tensor] | None = None,
    bias: bool | None = None,
) -> Conv2d:
    """Build a convolution with its norm, padded so that only its stride changes the map's size.

    Args:
        in_channels: C of the input.
        out_channels: C of the result.
        kernel_size: odd; the border is padded by half the (dilated) kernel.
        norm: see `get_norm`.
        stride, dilation, groups: of the convolution.
        activation: applied last.
        bias: whether to add a bias; by default only without a norm, which has its own.
    """
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=not norm if bias is None else bias,
        norm=get_norm(norm, out_channels),
        activation=activation,
    )


class DepthwiseSeparableConv2d(nn.Module):
    """A k x k convolution of each channel alone, then a 1 x 1 one over all channels (Xception)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable | None = None,
        activation1: Callable[[Tensor], Tensor] | None = None,
        norm2: str | Callable | None = None,
        activation2: Callable[[Tensor], Tensor] | None = None,
    ):
        """norm1 and activation1 follow the depthwise part, norm2 and activation2 the pointwise."""
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size=kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )
        weight_init.c2_msra_fill(self.depthwise)
        weight_init.c2_msra_fill(self.pointwise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        return self.pointwise(self.depthwise(x))
