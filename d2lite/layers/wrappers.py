"""Thin wrappers around torch operators: convolution with norm and activation, losses that accept
empty inputs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lite.layers.frozen_conv import can_fold, folded_parameters

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """2-d convolution followed by an optional norm and an optional activation.

    A frozen batch norm is folded into the convolution, which saves a pass over the activations; a
    norm with hooks is called as a module.
    """

    def __init__(self, *args, **kwargs):
        """Accept the arguments of `torch.nn.Conv2d`, and the keywords `norm` and `activation`.

        Args:
            norm: module applied after the convolution, or None.
            activation: callable applied last, or None.
        """
        norm = kwargs.pop("norm", None)
        activation = kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W'); N may be 0."""
        if can_fold(self, x):
            x = self._conv_forward(x, *folded_parameters(self))
        else:
            x = self._conv_forward(x, self.weight, self.bias)
            if self.norm is not None:
                x = self.norm(x)
        return x if self.activation is None else self.activation(x)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate like `torch.cat`, but return a single tensor without a copy."""
    assert isinstance(tensors, list | tuple), type(tensors)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a loss of (input, target) so that its mean over an empty input is 0 instead of NaN."""

    def wrapped_loss_func(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs):
        if target.numel() == 0 and reduction == "mean":
            return input.sum() * 0.0  # keeps every parameter in the graph, which DDP needs
        return loss_func(input, target, reduction=reduction, **kwargs)

    return wrapped_loss_func


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def check_if_dynamo_compiling() -> bool:
    """Return whether the caller is being compiled or exported by torch."""
    return torch.compiler.is_compiling()
