"""Give each prediction (anchor or proposal) its best ground truth and a label."""

import copy
import math

import torch
from torch import Tensor

from d2lite.structures import Boxes, pairwise_iou
from d2lite.utils.errors import ArgumentError

# Labels of predictions. Released configs contain the numbers (MODEL.RPN.IOU_LABELS).
FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1

LARGEST_MATRIX = 2**25
"""Maximum number of entries of an IoU matrix. A hundred objects and all anchors of a large image
have fewer; with ten thousand objects, the matrix would take tens of gigabytes."""


class Matcher:
    """Match R predictions to M ground truths by thresholds on their quality (such as IoU).

    A prediction is matched to the ground truth with the highest quality. The thresholds cut
    the range of that quality into intervals, each with its label; an interval includes its
    lower end. With thresholds [0.3, 0.7] and labels [0, -1, 1], predictions below 0.3 are
    background (0), those from 0.7 on are foreground (1), and the rest is ignored (-1).
    """

    def __init__(
        self, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool = False
    ):
        """Store the rule.

        Args:
            thresholds: positive, in ascending order.
            labels: one more than thresholds; each IGNORED, BACKGROUND or FOREGROUND.
            allow_low_quality_matches: label the best predictions of every ground truth as
                foreground, however poor they are, so that no ground truth goes without (Faster
                R-CNN, sec. 3.1.2).

        Raises:
            ValueError: the thresholds or the labels violate these rules.
        """
        if list(thresholds) != sorted(thresholds) or any(t <= 0 for t in thresholds):
            raise ArgumentError(
                f"IoU thresholds must be positive and ascending, found {thresholds}"
            )
        known = {FOREGROUND, BACKGROUND, IGNORED}
        if len(labels) != len(thresholds) + 1 or not set(labels) <= known:
            raise ArgumentError(
                f"{len(thresholds)} IoU thresholds need {len(thresholds) + 1} IoU labels, "
                f"each -1, 0 or 1; found {labels}"
            )
        # With both ends, so that label i is for qualities from thresholds[i] to thresholds[i + 1].
        self.thresholds = [-math.inf, *thresholds, math.inf]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match by an (M, R) matrix of qualities >= 0.

        Returns:
            matches: (R,) int64, the best ground truth of each prediction; 0 where there is none.
            match_labels: (R,) int8 labels. Without ground truth all have the lowest label.
        """
        assert match_quality_matrix.dim() == 2, (
            f"the qualities must be an (M, R) matrix, found {tuple(match_quality_matrix.shape)}"
        )
        num_gt, num_predictions = match_quality_matrix.shape
        lowest = match_quality_matrix.new_full((num_predictions,), self.labels[0], dtype=torch.int8)
        if num_gt == 0 or num_predictions == 0:
            return torch.zeros_like(lowest, dtype=torch.int64), lowest

        quality, matches = match_quality_matrix.max(dim=0)  # (R,), (R,)
        # The thresholds ascend, so the last one that a quality reaches decides.
        match_labels = lowest
        for threshold, label in zip(self.thresholds[1:-1], self.labels[1:], strict=True):
            match_labels.masked_fill_(quality >= threshold, label)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(match_labels, match_quality_matrix)
        return matches, match_labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Label 1, in place, every prediction that is the best one of some ground truth.

        All that tie for the best are set, also when that best quality is 0. The index a
        prediction is matched to stays that of its own best ground truth.
        """
        best = match_quality_matrix.amax(dim=1, keepdim=True)  # (M, 1)
        # Exact equality is safe: the best is a copy of one of the entries. Ties are common, since
        # anchors of one size have equal IoUs with an object that they all contain.
        is_best = (match_quality_matrix == best).any(dim=0)  # (R,)
        match_labels.masked_fill_(is_best, FOREGROUND)


def match_boxes(matcher: Matcher, gt_boxes: Boxes, boxes: Boxes) -> tuple[Tensor, Tensor]:
    """Match R boxes to M ground truths by their IoU, part by part if the matrix would be too large.

    Args:
        matcher: an instance of a subclass gets the whole matrix, whatever its size.

    Returns:
        The same as `matcher(pairwise_iou(gt_boxes, boxes))`.
    """
    step = max(1, LARGEST_MATRIX // max(1, len(gt_boxes)))
    if step >= len(boxes) or type(matcher) is not Matcher:
        return matcher(pairwise_iou(gt_boxes, boxes))
    by_threshold = copy.copy(matcher)
    by_threshold.allow_low_quality_matches = False
    parts = [boxes[start : start + step] for start in range(0, len(boxes), step)]
    found, best = [], gt_boxes.tensor.new_zeros(len(gt_boxes), 1)
    for part in parts:
        iou = pairwise_iou(gt_boxes, part)
        found.append(by_threshold(iou))
        best = torch.maximum(best, iou.amax(dim=1, keepdim=True))  # (M, 1)
    matches, labels = (torch.cat(values) for values in zip(*found, strict=True))
    if matcher.allow_low_quality_matches:
        is_best = [(pairwise_iou(gt_boxes, part) == best).any(dim=0) for part in parts]
        labels.masked_fill_(torch.cat(is_best), FOREGROUND)
    return matches, labels
