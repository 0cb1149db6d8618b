"""A convolution that applies the same weights with several dilations."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TridentConv(nn.Module):
    """Convolution shared by branches, each with its own dilation (Li et al. 2019, sec. 3.2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        paddings: int | Sequence[int] = 0,
        dilations: int | Sequence[int] = 1,
        groups: int = 1,
        num_branch: int = 1,
        test_branch_idx: int = -1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        """Describe the convolution.

        Args:
            paddings, dilations: one value per branch, or one for all.
            num_branch: B.
            test_branch_idx: the branch whose dilation is used at inference; -1: all branches.
            norm: a module applied to each result, or None.
            activation: a callable applied last, or None.
        Raises:
            ValueError: the number of paddings or dilations differs from that of branches, or the
                branch for inference does not exist.
        """
        super().__init__()
        self.kernel_size = (kernel_size, kernel_size)
        self.num_branch = num_branch
        self.stride = stride
        self.groups = groups
        self.paddings = [paddings] * num_branch if isinstance(paddings, int) else list(paddings)
        self.dilations = [dilations] * num_branch if isinstance(dilations, int) else list(dilations)
        self.test_branch_idx = test_branch_idx
        if not len(self.paddings) == len(self.dilations) == num_branch:
            raise ValueError(
                f"MODEL.TRIDENT.NUM_BRANCH is {num_branch}, but there are {len(self.dilations)} "
                f"BRANCH_DILATIONS and {len(self.paddings)} paddings; give one for each branch"
            )
        if not -1 <= test_branch_idx < num_branch:
            raise ValueError(
                f"MODEL.TRIDENT.TEST_BRANCH_IDX is {test_branch_idx}; use 0 to {num_branch - 1}, "
                "or -1 for all branches"
            )
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm = norm
        self.activation = activation

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Convolve the input of each branch.

        Args:
            inputs: (N, in_channels, H, W) of each branch; one input for a single branch at
                inference.
        Returns:
            (N, out_channels, H', W') of each branch.
        """
        if self.training or self.test_branch_idx == -1:
            branches = range(self.num_branch)
        else:
            branches = [self.test_branch_idx]
        outputs = []
        for x, branch in zip(inputs, branches, strict=True):
            x = F.conv2d(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.paddings[branch],
                self.dilations[branch],
                self.groups,
            )
            if self.norm is not None:
                x = self.norm(x)
            outputs.append(x if self.activation is None else self.activation(x))
        return outputs

    def extra_repr(self) -> str:
        """Return the text that `print(model)` shows for it."""
        out_channels, in_channels = self.weight.shape[0], self.weight.shape[1] * self.groups
        return (
            f"in_channels={in_channels}, out_channels={out_channels}, "
            f"kernel_size={self.kernel_size}, num_branch={self.num_branch}, "
            f"test_branch_idx={self.test_branch_idx}, stride={self.stride}, "
            f"paddings={self.paddings}, dilations={self.dilations}, groups={self.groups}, "
            f"bias={self.bias is not None}"
        )
