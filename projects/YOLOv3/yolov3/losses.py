"""The losses of YOLOv3 (sec. 2.1 and 2.2, with Darknet's weights for small boxes)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def ignored_predictions(iou: Tensor, threshold: float) -> Tensor:
    """Return (R,) bool: whether a prediction overlaps any object by more than `threshold`.

    Args:
        iou: (M, R) of objects and predicted boxes.
        threshold: IoU.
    """
    return (iou > threshold).any(dim=0)


def yolov3_losses(
    predictions: Tensor,
    offsets: Tensor,
    log_ratios: Tensor,
    classes: Tensor,
    weights: Tensor,
    *,
    positive: Tensor,
    ignored: Tensor,
) -> dict[str, Tensor]:
    """Return the losses: sums over all predictions, divided by the number of images.

    Args:
        predictions: (N, R, 5 + K): box values, logits of objectness and of the classes.
        offsets, log_ratios: (P, 2) each, targets of the P positive predictions, see `encode`.
        classes: (P,) int64.
        weights: (P,) weights of the box losses, from 1 for the largest objects to 2 for the
            smallest.
        positive: (N, R) bool: predictions with an object.
        ignored: (N, R) bool: predictions without an objectness loss, unless they are positive.
    """
    num_images = len(predictions)
    chosen = predictions[positive]  # (P, 5 + K)
    xy = F.binary_cross_entropy_with_logits(chosen[:, :2], offsets, reduction="none")
    wh = (chosen[:, 2:4] - log_ratios).square() / 2
    one_hot = F.one_hot(classes, predictions.shape[2] - 5).to(predictions.dtype)
    objectness = F.binary_cross_entropy_with_logits(
        predictions[..., 4], positive.to(predictions.dtype), reduction="none"
    )
    counted = positive | ~ignored
    losses = {
        "loss_xy": (xy.sum(dim=1) * weights).sum(),
        "loss_wh": (wh.sum(dim=1) * weights).sum(),
        "loss_obj": torch.where(counted, objectness, 0.0).sum(),
        "loss_cls": F.binary_cross_entropy_with_logits(chosen[:, 5:], one_hot, reduction="sum"),
    }
    return {name: loss / num_images for name, loss in losses.items()}
