"""Folding a frozen batch norm into the convolution before it.

A frozen norm is y * scale + shift with constants, so conv(x, w) * scale + shift is the same as
conv(x, w * scale, shift). Where the weights are smaller than the activations, scaling them instead
saves a pass over the activations in each direction; autograd through w * scale gives the
convolution's weight its exact gradient.
"""

import math

import torch
from torch import Tensor, nn

from d2lite.layers.batch_norm import FrozenBatchNorm2d


def can_fold(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether `conv.norm` is a frozen batch norm that is worth folding for the input `x`.

    It is worth folding where scaling the weights costs less than scaling the result. A norm with
    hooks is never folded, since its hooks have to run.
    """
    norm = conv.norm
    if (
        type(norm) is not FrozenBatchNorm2d
        or norm._forward_hooks
        or norm._forward_pre_hooks
        or norm._backward_hooks
        or norm._backward_pre_hooks
    ):
        return False
    positions = x.shape[0] * x.shape[-2] * x.shape[-1] // math.prod(conv.stride)
    return positions > math.prod(conv.weight.shape[1:])


def folded_parameters(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one convolution that equals `conv` followed by its frozen norm."""
    scale, shift = conv.norm.scale_and_shift()
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    bias = shift if conv.bias is None else torch.addcmul(shift, conv.bias, scale)
    return weight, bias
