"""The class loss of RetinaFace, with background anchors chosen by their loss."""

import torch.nn.functional as F
from torch import Tensor

from d2lite.modeling.hard_negatives import hard_negatives


def mined_class_loss(logits: Tensor, labels: Tensor, ratio: float) -> Tensor:
    """Return the sum of the cross entropy over foreground and hard background anchors.

    Args:
        logits: (N, R, 1 + K), background first.
        labels: (N, R) int64: -1 for ignored, 0 for background, 1 + k for class k.
        ratio: number of background anchors per foreground anchor of an image (OHEM, SSD sec. 2.2).
            An image without foreground gets as many as one with a single foreground anchor, so
            that it contributes to the loss too.
    """
    foreground = labels > 0
    loss = F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none")
    loss = loss.view_as(labels)
    num_negatives = ratio * foreground.sum(dim=1).clamp(min=1)  # (N,)
    return loss[foreground | hard_negatives(loss, labels == 0, num_negatives)].sum()
