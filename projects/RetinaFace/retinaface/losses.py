"""The class loss of RetinaFace, with background anchors chosen by their loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_negatives(loss: Tensor, labels: Tensor, ratio: float) -> Tensor:
    """Choose the background anchors of each image that have the highest loss (OHEM, SSD sec. 2.2).

    Args:
        loss: (N, R) class loss of every anchor.
        labels: (N, R): -1 is ignored, 0 background, above is foreground.
        ratio: how many to choose for each foreground anchor. An image without foreground gets as
            many as one with a single anchor, so that it teaches something too.
    Returns:
        (N, R) bool.
    """
    negative = labels == 0
    wanted = ratio * (labels > 0).sum(dim=1, keepdim=True).clamp(min=1)  # (N, 1)
    hardest_first = loss.detach().masked_fill(~negative, -torch.inf).argsort(dim=1, descending=True)
    rank = hardest_first.argsort(dim=1)
    return negative & (rank < wanted)


def mined_class_loss(logits: Tensor, labels: Tensor, ratio: float) -> Tensor:
    """Cross-entropy of foreground and hard background anchors, summed.

    Args:
        logits: (N, R, 1 + K), background first.
        labels: (N, R) int64: -1 is ignored, 0 background, 1 + k is class k.
        ratio: see `hard_negatives`.
    """
    loss = F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none")
    loss = loss.view_as(labels)
    return loss[(labels > 0) | hard_negatives(loss, labels, ratio)].sum()
