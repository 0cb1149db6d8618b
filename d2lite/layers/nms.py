"""Non-maximum suppression, per group and for rotated boxes."""

import torch
from torch import Tensor
from torchvision.ops import boxes as box_ops, nms as nms

from d2lite.layers.rotated_boxes import bounding_boxes_meet, paired_iou_rotated

CANDIDATES_PER_CHUNK = 1 << 22  # pairs computed at a time; a byte or a float each


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Apply NMS to each group (category or level) separately.

    Args:
        boxes: (R, 4) XYXY.
        scores: (R,).
        idxs: (R,) group of each box.
        iou_threshold: a box is dropped if its IoU with a kept, higher-scoring one of its group
            exceeds this.
    Returns:
        (kept,) int64 indices by descending score.
    """
    # Half precision can't represent the offsets by which torchvision separates groups.
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Apply NMS to rotated boxes.

    Args:
        boxes: (R, 5) of (center x, center y, width, height, angle in degrees counter-clockwise).
        scores: (R,).
        iou_threshold: a box is dropped if its IoU with a kept, higher-scoring one exceeds this.
    Returns:
        (kept,) int64 indices by descending score; for equal scores, the lower index comes first.
    """
    order = scores.sort(descending=True, stable=True).indices
    better, worse = overlapping_pairs(boxes[order], iou_threshold)
    return order[greedy_keep(better, worse, len(boxes))]


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """Apply NMS to each group of (R, 5) rotated boxes separately; see `batched_nms`."""
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for group in idxs.unique().tolist():
        members = (idxs == group).nonzero()[:, 0]
        keep[members[nms_rotated(boxes[members], scores[members], iou_threshold)]] = True
    kept = keep.nonzero()[:, 0]
    return kept[scores[kept].sort(descending=True, stable=True).indices]


def overlapping_pairs(boxes: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Find all pairs (i, j), i < j, of rotated boxes whose IoU exceeds the threshold.

    Args:
        boxes: (R, 5).

    Returns:
        Two (K,) int64 tensors, i and j.
    """
    boxes = boxes.float()
    firsts, seconds = [], []
    rows_per_chunk = max(1, CANDIDATES_PER_CHUNK // max(len(boxes), 1))
    for start in range(0, len(boxes), rows_per_chunk):
        chunk = boxes[start : start + rows_per_chunk]
        near = bounding_boxes_meet(chunk, boxes[start:]).triu(diagonal=1)
        i, j = near.nonzero(as_tuple=True)
        above = paired_iou_rotated(chunk, boxes[start:], i, j) > iou_threshold
        firsts.append(start + i[above])
        seconds.append(start + j[above])
    none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    return torch.cat([none, *firsts]), torch.cat([none, *seconds])


def greedy_keep(better: Tensor, worse: Tensor, count: int) -> Tensor:
    """Return which of `count` boxes, sorted by descending score, greedy NMS keeps: (count,) bool.

    Every pass decides all boxes anew from those that the previous pass kept. As boxes are sorted,
    pass n is right for the first n, and once nothing changes, for all. Few passes are needed,
    since chains of suppression are short.

    Args:
        better, worse: (K,) indices: better[k] suppresses worse[k] if it is kept itself.
    """
    keep = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        decided = torch.ones_like(keep)
        decided[worse[keep[better]]] = False
        if torch.equal(decided, keep):
            return keep
        keep = decided
