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
    """1 - generalized IoU of each pair (Rezatofighi et al. 2019).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return generalized_box_iou_loss(boxes1, boxes2, reduction, eps)


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - IoU + squared distance of the centers over the enclosing diagonal (Zheng et al. 2020).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return distance_box_iou_loss(boxes1, boxes2, reduction, eps)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """DIoU loss plus a penalty for a differing aspect ratio (Zheng et al. 2020).

    Args:
        reduction: "none" gives (R,), "mean" and "sum" a scalar; the mean over nothing is 0.
    """
    return complete_box_iou_loss(boxes1, boxes2, reduction, eps)


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: str = "none") -> Tensor:
    """Half the square over beta for differences below beta, and |difference| - beta / 2 above.

    Large differences have a gradient of 1 only, so that outliers do not rule the training (Fast
    R-CNN, eq. 3, for beta 1).

    Args:
        beta: below 1e-5 the loss is plain L1, whose gradient at 0 is 0.
        reduction: "none", "mean" or "sum"; the mean over nothing is 0.
    """
    if input.numel() == 0 and reduction == "mean":
        return input.sum() * 0.0
    if beta < 1e-5:
        return F.l1_loss(input, target, reduction=reduction)
    return F.smooth_l1_loss(input, target, beta=beta, reduction=reduction)
