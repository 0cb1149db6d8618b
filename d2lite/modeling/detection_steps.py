"""The steps that detectors share, as functions on tensors.

In training, anchors or proposals are matched to objects (`matcher.py`), and the matches become
class labels and target boxes. In inference, the best of many scored boxes are selected, and NMS
removes duplicates.

R is the number of anchors (or proposals) of an image, M the number of its objects, K the number of
classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from d2lite.layers import batched_nms, batched_nms_rotated, cat
from d2lite.modeling.matcher import BACKGROUND, IGNORED
from d2lite.structures import Boxes, Instances, RotatedBoxes

ROTATED_DIM = 5


# --- from features to anchors --------------------------------------------------------------------


def permute_to_N_HWA_K(tensor: Tensor, K: int) -> Tensor:
    """(N, A * K, H, W) predictions -> (N, H * W * A, K), in the order of the anchors.

    A view if the memory layout is channels last.
    """
    num_images, channels, height, width = tensor.shape
    by_cell = tensor.permute(0, 2, 3, 1)  # (N, H, W, A * K)
    return by_cell.reshape(num_images, height * width * (channels // K), K)


# --- training: from matches to targets -----------------------------------------------------------


def class_labels(
    gt_classes: Tensor, matches: Tensor, match_labels: Tensor, background: int
) -> Tensor:
    """Return for each anchor the class of its matched object.

    Args:
        gt_classes: (M,) int64.
        matches: (R,) int64 indices of the objects, see `Matcher`.
        match_labels: (R,) FOREGROUND, BACKGROUND or IGNORED.
        background: the class of the background: K, or 0 in models where it comes first.

    Returns:
        (R,) int64: -1 for ignored anchors. Without objects, all are background.
    """
    if len(gt_classes) == 0:
        return torch.full_like(matches, background)
    labels = gt_classes[matches]
    labels.masked_fill_(match_labels == BACKGROUND, background)
    return labels.masked_fill_(match_labels == IGNORED, -1)


def matched_boxes(gt_boxes: Boxes, matches: Tensor) -> Tensor:
    """Return the (R, 4 or 5) boxes of the matched objects; zeros where there are no objects."""
    if len(gt_boxes) == 0:
        return gt_boxes.tensor.new_zeros(len(matches), gt_boxes.tensor.shape[1])
    return gt_boxes.tensor[matches]


def is_foreground(labels: Tensor, num_classes: int) -> Tensor:
    """Return which class labels are foreground: neither ignored (-1) nor background (K)."""
    return (labels >= 0) & (labels < num_classes)


def moving_average(old: Tensor | float, new: Tensor | float, momentum: float = 0.9) -> Tensor:
    """Update an exponential moving average: momentum * old + (1 - momentum) * new.

    The result is a float32 tensor on the device of `new`, so no step waits for the GPU.
    """
    new = torch.as_tensor(new, dtype=torch.float32)
    return new.lerp(torch.as_tensor(old, dtype=torch.float32, device=new.device), momentum)


# --- inference: from scores to detections --------------------------------------------------------


class Candidates(NamedTuple):
    """The T best (anchor, class) pairs, best first."""

    scores: Tensor  # (T,)
    anchors: Tensor  # (T,) int64: rows of the anchors
    classes: Tensor  # (T,) int64


def select_candidates(scores: Tensor, threshold: float, topk: int) -> Candidates:
    """Select the best (anchor, class) pairs.

    Most scores of a dense detector are near 0; decoding and sorting all of them would take longer
    than the network (RetinaNet, sec. 4.1).

    Args:
        scores: (R, K).
        threshold: only higher scores count.
        topk: maximum number of pairs.
    """
    pairs = (scores > threshold).nonzero()
    best = scores[pairs[:, 0], pairs[:, 1]].topk(min(topk, len(pairs)))
    return Candidates(best.values, *pairs[best.indices].unbind(dim=1))


class TopOfLevels(NamedTuple):
    """The best anchors of each level, concatenated; T per image."""

    indices: list[Tensor]  # per level, (N, Tl): rows of the level's anchors
    logits: Tensor  # (N, T), descending within a level
    levels: Tensor  # (T,) int64: the level of each


def select_top_of_levels(logits: Sequence[Tensor], topk: int) -> TopOfLevels:
    """Select the `topk` best anchors of each level, for anchors with a single score.

    Selecting per level prevents large levels from crowding out the small ones.

    Args:
        logits: per level, (N, Rl).
    """
    best = [x.topk(min(x.shape[1], topk), dim=1) for x in logits]
    levels = [
        torch.full((x.indices.shape[1],), level, dtype=torch.int64, device=x.values.device)
        for level, x in enumerate(best)
    ]
    return TopOfLevels([x.indices for x in best], cat([x.values for x in best], 1), cat(levels))


def gather_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Pick rows of each image: x (N, R, B), rows (N, T) -> (N, T, B)."""
    return x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))


def as_boxes(tensor: Tensor) -> Boxes:
    """Return (N, 4) as Boxes, (N, 5) as RotatedBoxes."""
    return RotatedBoxes(tensor) if tensor.shape[1] == ROTATED_DIM else Boxes(tensor)


def nms_within(groups: Tensor, boxes: Boxes, scores: Tensor, iou_threshold: float) -> Tensor:
    """Apply NMS within groups, such as classes or levels.

    Args:
        groups: (N,) int64; boxes of different groups never suppress each other.
        boxes: N Boxes or RotatedBoxes.
        scores: (N,); the higher-scoring of two boxes is kept.
        iou_threshold: IoU above which the lower-scoring of two boxes is dropped.
    Returns:
        (M,) int64 indices of the boxes to keep, best first.
    """
    nms = batched_nms_rotated if isinstance(boxes, RotatedBoxes) else batched_nms
    return nms(boxes.tensor, scores, groups, iou_threshold)


def nms_detections(candidates: Instances, iou_threshold: float, topk: int) -> Instances:
    """Keep the best detections of an image after NMS within each class.

    Args:
        candidates: with `pred_boxes`, `scores` and `pred_classes`; further fields are kept.
        iou_threshold: IoU above which the lower-scoring of two boxes of a class is dropped.
        topk: maximum number of detections.

    Returns:
        The remaining candidates, best first.
    """
    keep = nms_within(
        candidates.pred_classes, candidates.pred_boxes, candidates.scores, iou_threshold
    )
    return candidates[keep[:topk]]
