"""Hard negative mining: choose the background with the highest loss (SSD, sec. 2.2)."""

import torch
from torch import Tensor


def hard_negatives(loss: Tensor, negative: Tensor, num_wanted: Tensor) -> Tensor:
    """Choose the background examples with the highest loss in each image.

    Args:
        loss: (N, R) classification loss of every anchor or box.
        negative: (N, R) bool: the background to choose from.
        num_wanted: (N,) number per image; fewer are chosen if there are not enough.
    Returns:
        (N, R) bool.
    """
    hardest_first = loss.detach().masked_fill(~negative, -torch.inf).argsort(dim=1, descending=True)
    rank = hardest_first.argsort(dim=1)  # the inverse permutation: the place of each in the order
    return negative & (rank < num_wanted[:, None])
