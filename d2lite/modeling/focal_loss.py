"""The focal loss of dense detectors, computed without a target for every class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2lite.modeling.detection_steps import is_foreground


def focal_loss_of_labels(
    pred_logits: list[Tensor], labels: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Compute the sum of the focal losses (Lin et al. 2017, eq. 5) of K independent classes.

    Easy negatives get little weight: with a score of 0.1 and gamma 2, an entry has a hundredth of
    its cross entropy (sec. 3.2). So the loss can be summed over all anchors, without sampling.

    Nearly all of the R * K entries are negative. So all are first summed as negatives, and then the
    few positive ones are corrected. This needs no one-hot target and half the arithmetic.

    Args:
        pred_logits: L levels of (N, Ri, K) logits.
        labels: (N, R) class of each anchor of all levels: 0 to K-1, K is background; negative
            labels are ignored.
        alpha: weight of positive entries; negative ones get 1 - alpha. If negative, all get 1.
        gamma: focusing parameter; higher values reduce the weight of well-classified entries.

    Returns:
        A scalar.
    """
    positive_weight, negative_weight = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
    labels_by_level = labels.split([logits.shape[1] for logits in pred_logits], dim=1)
    total = pred_logits[0].new_zeros(())
    for logits, level_labels in zip(pred_logits, labels_by_level, strict=True):
        negatives = _entry_loss(logits, gamma).sum(dim=2)  # (N, Ri)
        counted = torch.where(level_labels >= 0, negatives, 0.0)
        num_classes = logits.shape[2]
        foreground = is_foreground(level_labels, num_classes)
        image, anchor = foreground.nonzero(as_tuple=True)
        found = logits[image, anchor, level_labels[image, anchor]]  # (P,)
        as_positive = positive_weight * _entry_loss(-found, gamma)
        as_negative = negative_weight * _entry_loss(found, gamma)
        total = total + negative_weight * counted.sum() + (as_positive - as_negative).sum()
    return total


def _entry_loss(logits: Tensor, gamma: float) -> Tensor:
    """Return p ** gamma * -log(1 - p), the loss of negative entries; negate x for positive ones.

    For p = sigmoid(x): 1 - p is sigmoid(-x), and -log(1 - p) is softplus(x), which stays finite.
    """
    return logits.sigmoid().pow(gamma) * F.softplus(logits)
