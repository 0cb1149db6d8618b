"""Losses on boxes and logits. Boxes are (R, 4) XYXY, paired row by row."""

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss as sigmoid_focal_loss,
)


def giou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - generalized IoU of each pair (Rezatofighi et al. 2019).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return generalized_box_iou_loss(boxes1, boxes2, reduction, eps)


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - IoU + (distance of centers / diagonal of hull)^2 per pair (Zheng et al. 2020).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return distance_box_iou_loss(boxes1, boxes2, reduction, eps)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return the DIoU loss plus a penalty for differing aspect ratios (Zheng et al. 2020).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return complete_box_iou_loss(boxes1, boxes2, reduction, eps)


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: str = "none") -> Tensor:
    """Return d^2 / (2 * beta) for differences d below beta, and |d| - beta / 2 for larger ones.

    The gradient never exceeds 1, so that outliers do not dominate training (Fast R-CNN, eq. 3,
    for beta 1).

    Args:
        beta: where the quadratic part ends; below 1e-5 the loss is plain L1, with gradient 0 at 0.
        reduction: "none", "mean" or "sum"; the mean over nothing is 0.
    """
    if input.numel() == 0 and reduction == "mean":
        return input.sum() * 0.0
    if beta < 1e-5:
        return F.l1_loss(input, target, reduction=reduction)
    return F.smooth_l1_loss(input, target, beta=beta, reduction=reduction)
