"""Matching of default boxes and the multibox loss (SSD, sec. 2.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2lite.modeling.hard_negatives import hard_negatives

UNMATCHED = -1


def match_default_boxes(iou: Tensor, threshold: float) -> Tensor:
    """Assign an object, or none, to each of R default boxes.

    A box gets the object that it overlaps most, if their IoU is at least the threshold. In
    addition, every object gets the box that overlaps it most; if two objects claim the same box,
    the larger IoU wins.

    Args:
        iou: (M, R) of objects and default boxes.
        threshold: minimum IoU.
    Returns:
        (R,) int64 indices of objects; -1 is background.
    """
    if iou.shape[0] == 0:
        return torch.full((iou.shape[1],), UNMATCHED, device=iou.device)
    best_iou, gt_index = iou.max(dim=0)  # (R,)
    matches = gt_index.masked_fill(best_iou < threshold, UNMATCHED)
    favorite_iou, favorite = iou.max(dim=1, keepdim=True)  # (M, 1)
    claims = torch.full_like(iou, -1.0).scatter_(1, favorite, favorite_iou)  # (M, R)
    claim, claimant = claims.max(dim=0)  # (R,)
    return torch.where(claim >= 0, claimant, matches)


def multibox_loss(
    logits: Tensor,
    deltas: Tensor,
    gt_labels: Tensor,
    gt_deltas: Tensor,
    *,
    negative_ratio: float = 3.0,
    beta: float = 1.0,
) -> dict[str, Tensor]:
    """Return cross entropy (foreground, hardest background) and smooth L1 loss (foreground).

    Both are sums, divided by the number of foreground boxes in the batch (eq. 1 to 3).

    Args:
        logits: (N, R, K+1), the background first.
        deltas: (N, R, 4).
        gt_labels: (N, R) int64; 0 is background, 1 to K are classes.
        gt_deltas: (P, 4), of the P foreground boxes in order.
        negative_ratio: number of background boxes trained per foreground box of an image.
        beta: the smooth L1 loss is quadratic for differences below this.
    """
    foreground = gt_labels > 0
    num_negatives = negative_ratio * foreground.sum(dim=1)
    cross_entropy = F.cross_entropy(logits.transpose(1, 2), gt_labels, reduction="none")  # (N, R)
    trained = foreground | hard_negatives(cross_entropy, ~foreground, num_negatives)
    box_loss = F.smooth_l1_loss(deltas[foreground], gt_deltas, reduction="sum", beta=beta)
    normalizer = foreground.sum().clamp(min=1)
    return {
        "loss_cls": cross_entropy[trained].sum() / normalizer,
        "loss_box_reg": box_loss / normalizer,
    }
