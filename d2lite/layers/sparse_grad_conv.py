"""A convolution whose backward pass computes only the cells that a loss sampled."""

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lite.layers.wrappers import Conv2d

# Above this share of cells with a gradient, the dense backward pass is faster.
_LARGEST_SHARE = 0.25


class SparseGradConv2d(Conv2d):
    """`Conv2d` for outputs of which a loss samples few cells, such as those of an RPN.

    The output's gradient is zero in all other cells, so the gradients of input and weight are sums
    over the sampled ones: equal to those of a dense convolution up to the order of summation. This
    applies on the CPU, with stride 1 and a padding that keeps the size; elsewhere, and where many
    cells have a gradient, it is an ordinary convolution.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        odd = all(size % 2 for size in self.kernel_size)
        keeps_size = odd and self.padding == tuple(size // 2 for size in self.kernel_size)
        plain = self.stride == self.dilation == (1, 1) and self.groups == 1
        if (
            torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and input.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and keeps_size
            and plain
            and self.padding_mode == "zeros"
        ):
            return _SparseGradConv.apply(input, weight, bias)
        return super()._conv_forward(input, weight, bias)


class _SparseGradConv(torch.autograd.Function):
    """Convolution with stride 1, an odd kernel and zero padding of half a kernel."""

    @staticmethod
    def forward(ctx, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return F.conv2d(input, weight, bias, padding=_half(weight))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: torch's own backward is differentiable
            return _dense_gradients(grad, input, weight, ctx.needs_input_grad)
        active = (grad != 0).any(dim=1)  # (N, H, W); NaN counts as a gradient
        cells = active.nonzero(as_tuple=True)
        if len(cells[0]) > _LARGEST_SHARE * active.numel():
            return _dense_gradients(grad, input, weight, ctx.needs_input_grad)
        return _sparse_gradients(grad, cells, input, weight, ctx.needs_input_grad)


def _half(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _dense_gradients(
    grad: Tensor, input: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return torch.ops.aten.convolution_backward(
        grad, input, weight, [len(weight)], [1, 1], _half(weight), [1, 1], False, [0, 0], 1, needed
    )


def _sparse_gradients(
    grad: Tensor,
    cells: tuple[Tensor, Tensor, Tensor],
    input: Tensor,
    weight: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, weight and bias from P cells (image, row, column)."""
    image, row, column = cells
    values = grad[image, :, row, column]  # (P, out_channels)
    input_grad = torch.zeros_like(input) if needed[0] else None
    weight_grad = torch.zeros_like(weight) if needed[1] else None
    height, width = input.shape[2:]
    half = _half(weight)
    # One tap of the kernel at a time: through one tap, no two output cells see the same input cell.
    for dy in range(weight.shape[2]):
        for dx in range(weight.shape[3]):
            y, x = row + (dy - half[0]), column + (dx - half[1])
            inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).nonzero().squeeze(1)
            seen = image[inside], slice(None), y[inside], x[inside]
            if weight_grad is not None:
                weight_grad[:, :, dy, dx] = values[inside].T @ input[seen]
            if input_grad is not None:
                input_grad[seen] += values[inside] @ weight[:, :, dy, dx]
    return input_grad, weight_grad, values.sum(dim=0) if needed[2] else None
