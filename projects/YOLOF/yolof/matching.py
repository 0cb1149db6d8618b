"""Uniform matching: every object gets the same number of anchors, whatever its size (sec. 4.2)."""

from typing import NamedTuple

import torch
from torch import Tensor

from d2lite.modeling.matcher import BACKGROUND, FOREGROUND, IGNORED
from d2lite.structures import Boxes, pairwise_iou


class UniformMatch(NamedTuple):
    """Targets of the R anchors of an image."""

    label: Tensor
    """(R,) int64: FOREGROUND, BACKGROUND or IGNORED, for the classes"""
    gt_index: Tensor
    """(R,) int64: the object of a foreground anchor; 0 for the others"""
    pair_anchor: Tensor
    """(P,) int64: anchors whose boxes are trained; an anchor may occur several times"""
    pair_gt: Tensor
    """(P,) int64: the object for which each of these is trained"""


def uniform_match(
    anchors: Tensor,
    pred_boxes: Tensor,
    gt_boxes: Tensor,
    *,
    topk: int = 4,
    pos_ignore_threshold: float = 0.15,
    neg_ignore_threshold: float = 0.7,
) -> UniformMatch:
    """Match R anchors and their predictions to M objects; all boxes are XYXY.

    Each object claims its `topk` nearest anchors, and the anchors of its `topk` nearest
    predictions. A claim is valid if anchor and object overlap enough; otherwise it only prevents
    the anchor from being background. A box is trained for each valid claim. The class is trained
    once per anchor, for the claiming object that it overlaps most.

    Args:
        anchors: (R, 4).
        pred_boxes: (R, 4), decoded from the anchors.
        gt_boxes: (M, 4).
        topk: number of claims of each kind per object.
        pos_ignore_threshold: minimum IoU of anchor and object for a valid claim.
        neg_ignore_threshold: unclaimed anchors are ignored if their prediction has a higher IoU
            with any object.
    """
    num_gt, num_anchors = len(gt_boxes), len(anchors)
    if num_gt == 0:
        none = torch.zeros(num_anchors, dtype=torch.int64, device=anchors.device)
        return UniformMatch(torch.full_like(none, BACKGROUND), none, none[:0], none[:0])
    pair_anchor, pair_gt = _claims(anchors, pred_boxes, gt_boxes, topk)
    iou = pairwise_iou(Boxes(gt_boxes), Boxes(anchors))  # (M, R)
    pair_iou = iou[pair_gt, pair_anchor]

    claim_iou = torch.full_like(iou, -1.0)
    claim_iou[pair_gt, pair_anchor] = pair_iou  # equal pairs write equal numbers
    best_iou, gt_index = claim_iou.max(dim=0)  # (R,)
    foreground = best_iou >= pos_ignore_threshold
    found = pairwise_iou(Boxes(gt_boxes), Boxes(pred_boxes)).amax(dim=0) > neg_ignore_threshold
    label = torch.full_like(gt_index, BACKGROUND)
    label[found | (best_iou >= 0)] = IGNORED
    label[foreground] = FOREGROUND
    counted = pair_iou >= pos_ignore_threshold
    return UniformMatch(
        label, gt_index.masked_fill(~foreground, 0), pair_anchor[counted], pair_gt[counted]
    )


def _claims(
    anchors: Tensor, pred_boxes: Tensor, gt_boxes: Tensor, topk: int
) -> tuple[Tensor, Tensor]:
    """Return (2 * topk * M,) indices of anchors, and of the objects that claim them."""
    wanted = _as_center_and_size(gt_boxes)
    topk = min(topk, len(anchors))
    nearest = [
        torch.cdist(wanted, _as_center_and_size(boxes), p=1).topk(topk, dim=1, largest=False)
        for boxes in (pred_boxes, anchors)
    ]
    pair_anchor = torch.cat([found.indices for found in nearest], dim=1)  # (M, 2 * topk)
    claimants = torch.arange(len(gt_boxes), device=gt_boxes.device)
    return pair_anchor.flatten(), claimants.repeat_interleave(pair_anchor.shape[1])


def _as_center_and_size(boxes: Tensor) -> Tensor:
    """Convert (R, 4) XYXY boxes to center x, center y, width, height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return torch.cat(((low + high) / 2, high - low), dim=1)
