"""The focal loss of dense detectors, computed without a target for every class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2lite.modeling.detection_steps import is_foreground


def focal_loss_of_labels(
    pred_logits: list[Tensor], labels: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum of the focal losses (Lin et al. 2017, eq. 5) of independent classes.

    Easy negatives weigh little: at a score of 0.1 and gamma 2, an entry has a hundredth of its
    cross entropy (sec. 3.2). So all anchors can train, and the loss is their sum.

    Nearly all of the R * K entries are negative. So all are summed up as negatives, and the few
    positive ones are corrected: no one-hot target is made, and half the arithmetic falls away.

    Args:
        pred_logits: L levels of (N, Ri, K) logits.
        labels: (N, R) class of each anchor of all levels: 0 to K-1, K is background; negative
            labels are ignored.
        alpha: weight of positive entries; negative ones weigh 1 - alpha. If below 0, all weigh 1.
        gamma: how much less entries weigh that are right already.

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
    """p ** gamma * -log(1 - p) of negative entries; of positive ones when the sign is turned.

    For p = sigmoid(x): 1 - p is sigmoid(-x), and -log(1 - p) is softplus(x), which stays finite.
    """
    return logits.sigmoid().pow(gamma) * F.softplus(logits)
