"""Types of detection errors, and how much AP each of them costs (TIDE, arXiv 2008.08115).

Everything is computed at an IoU of 0.5 with COCO's matching, so the AP is COCO's AP50.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

FOREGROUND = 0.5  # IoU from which a box matches an object
BACKGROUND = 0.1  # IoU below which it is background

CORRECT, CLASS, LOCATION, BOTH, DUPLICATE, NOTHING, IGNORED = range(7)
KINDS = ("correct", "class", "location", "both", "duplicate", "background", "ignored")
"""Kinds of detections by number: correct; wrong class; poorly localized; wrong class and poorly
localized; duplicate of a better detection; background; matched to a crowd, which is ignored."""
MISSED = "missed"  # objects without any detection, not even one with a class or localization error


@dataclass
class ImageObjects:
    """The objects and detections of one image."""

    gt_boxes: np.ndarray  # (M, 4) XYXY
    gt_classes: np.ndarray  # (M,)
    gt_crowd: np.ndarray  # (M,) bool
    boxes: np.ndarray  # (N, 4) XYXY, by descending score
    classes: np.ndarray  # (N,)
    scores: np.ndarray  # (N,)


@dataclass
class MatchedImage:
    """The matches of objects and detections of one image; -1 means none."""

    objects: ImageObjects
    kinds: np.ndarray  # (N,) of KINDS
    gt_of: np.ndarray  # (N,) object that the detection matches, or would match without its error
    found_by: np.ndarray  # (M,) detection that matches the object
    near: np.ndarray  # (M,) bool: a class or localization error belongs to the object
    at: np.ndarray  # (N,) object at the location of the detection, of any class
    missed: np.ndarray = field(init=False)  # (M,) bool

    def __post_init__(self) -> None:
        self.missed = (self.found_by < 0) & ~self.near & ~self.objects.gt_crowd


def match_image(image: ImageObjects) -> MatchedImage:
    """Match the detections of an image with its objects, and classify the errors.

    The error of a detection is localization if an object of its class has an IoU of 0.1 to 0.5;
    otherwise class if one of another class has 0.5 or more; otherwise duplicate if one of its class
    has; otherwise background if all are below 0.1; otherwise both class and localization.
    """
    crowd = image.gt_crowd
    iou = _overlaps(image.boxes, image.gt_boxes, crowd)  # (N, M)
    same = image.classes[:, None] == image.gt_classes[None, :]
    gt_of, found_by = _greedy(np.where(same, iou, 0.0), crowd)
    at, _ = _greedy(np.where(crowd[None, :], 0.0, iou), np.zeros_like(crowd))
    kinds = np.full(len(image.boxes), CORRECT, np.int8)
    # An additional last entry for no object, which the index -1 selects.
    kinds[np.append(crowd, False)[gt_of]] = IGNORED
    near = np.zeros(len(crowd), bool)
    overlap = np.where(crowd[None, :], 0.0, iou)
    for i in np.flatnonzero(gt_of < 0):
        kinds[i], gt_of[i] = _kind_of_error(overlap[i], same[i])
        if kinds[i] in (CLASS, LOCATION):
            near[gt_of[i]] = True
    return MatchedImage(image, kinds, gt_of, found_by, near, at)


def _kind_of_error(iou: np.ndarray, same: np.ndarray) -> tuple[int, int]:
    """Return the kind of an unmatched detection, and the object that it belongs to."""
    if not len(iou) or iou.max() < BACKGROUND:
        return NOTHING, -1
    of_same, of_other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    if BACKGROUND <= of_same.max() < FOREGROUND:
        return LOCATION, int(of_same.argmax())
    if of_other.max() >= FOREGROUND:
        return CLASS, int(of_other.argmax())
    if of_same.max() >= FOREGROUND:
        return DUPLICATE, int(of_same.argmax())
    return BOTH, int(of_other.argmax())


def _overlaps(boxes: np.ndarray, gt_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the (N, M) IoU; for a crowd, the fraction of the detection inside it."""
    low = np.maximum(boxes[:, None, :2], gt_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], gt_boxes[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    area, gt_area = ((b[:, 2:] - b[:, :2]).clip(min=0).prod(axis=1) for b in (boxes, gt_boxes))
    union = np.where(crowd[None, :], area[:, None], area[:, None] + gt_area[None, :] - shared)
    return shared / np.maximum(union, 1e-12)


def _greedy(iou: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match each detection, best first, with the free object of highest IoU.

    Crowds come last, and several detections can match the same crowd.
    """
    gt_of = np.full(iou.shape[0], -1)
    found_by = np.full(iou.shape[1], -1)
    for i in np.flatnonzero((iou >= FOREGROUND).any(axis=1)):
        free = np.where((found_by >= 0) | crowd, 0.0, iou[i])
        if free.max() < FOREGROUND:
            free = np.where(crowd, iou[i], 0.0)
        if free.max() >= FOREGROUND:
            # The last one of equal IoUs, as in COCO's evaluation.
            gt_of[i] = len(free) - 1 - free[::-1].argmax()
            if not crowd[gt_of[i]]:
                found_by[gt_of[i]] = i
    return gt_of, found_by


def average_precision(scores: np.ndarray, correct: np.ndarray, count: int) -> float:
    """Return COCO's AP of one class: mean precision at 101 recalls.

    Args:
        scores: (N,) in the order of images.
        correct: (N,) bool.
        count: number of objects; if it is 0, the AP is 1 without detections and 0 otherwise.
    """
    if count == 0:
        return float(len(scores) == 0)
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(correct[order])
    recall = true / count
    precision = true / np.arange(1, len(order) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(index, len(precision))].mean())


@dataclass
class _Table:
    """All detections that count, with their positions in the images, and numbers of objects."""

    image: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray
    gt_of: np.ndarray
    counts: np.ndarray  # (K,) objects of each class

    def mean_ap(self, keep: np.ndarray, correct: np.ndarray, classes: np.ndarray,
                counts: np.ndarray) -> float:  # fmt: skip
        """Return the mean AP of the detections in `keep` over the classes with objects."""
        values = []
        for kind in np.flatnonzero(self.counts):
            rows = keep & (classes == kind)
            values.append(average_precision(self.scores[rows], correct[rows], counts[kind]))
        return float(np.mean(values)) if values else float("nan")


def _table(images: Sequence[MatchedImage], num_classes: int) -> _Table:
    counts = np.zeros(num_classes, int)
    for image in images:
        np.add.at(counts, image.objects.gt_classes[~image.objects.gt_crowd], 1)
    numbers = [np.full(len(image.kinds), i) for i, image in enumerate(images)]
    columns = [
        np.concatenate([np.zeros(0, int), *numbers]),
        np.concatenate([np.zeros(0, int), *(i.objects.classes for i in images)]),
        np.concatenate([np.zeros(0), *(i.objects.scores for i in images)]),
        np.concatenate([np.zeros(0, int), *(i.kinds for i in images)]),
        np.concatenate([np.zeros(0, int), *(i.gt_of for i in images)]),
    ]
    counted = columns[3] != IGNORED
    return _Table(*(column[counted] for column in columns), counts)


def error_costs(images: Sequence[MatchedImage], num_classes: int) -> dict[str, tuple[int, float]]:
    """Count the errors of each kind, and compute the AP gained if they were fixed.

    A class or localization error is fixed by using the class or box of its object: the best one of
    an unmatched object becomes correct, all others are removed. Other errors are removed, and for
    missed objects the number of objects is reduced.

    Args:
        images: of a whole dataset.
        num_classes: K.

    Returns:
        For each name of KINDS (except "ignored") and "missed", the number and the gain in AP50 in
        percent; for "correct", the AP50 itself.
    """
    table = _table(images, num_classes)
    right = table.kinds == CORRECT
    everything = np.ones_like(right)
    base = table.mean_ap(everything, right, table.classes, table.counts)
    found = {"correct": (int(right.sum()), 100 * base)}
    for kind in (CLASS, LOCATION, BOTH, DUPLICATE, NOTHING):
        wrong = table.kinds == kind
        keep, correct, classes = ~wrong, right.copy(), table.classes.copy()
        if kind in (CLASS, LOCATION):
            for i in _first_at_unfound(images, table, wrong):
                gt_classes = images[table.image[i]].objects.gt_classes
                keep[i] = correct[i] = True
                classes[i] = gt_classes[table.gt_of[i]]
        fixed = table.mean_ap(keep, correct, classes, table.counts)
        found[KINDS[kind]] = (int(wrong.sum()), 100 * (fixed - base))
    missed = np.zeros_like(table.counts)
    for image in images:
        np.add.at(missed, image.objects.gt_classes[image.missed], 1)
    fixed = table.mean_ap(everything, right, table.classes, table.counts - missed)
    found[MISSED] = (int(missed.sum()), 100 * (fixed - base))
    return found


def _first_at_unfound(
    images: Sequence[MatchedImage], table: _Table, wrong: np.ndarray
) -> list[int]:
    """Return the best one of the wrong detections for each unmatched object."""
    taken: set[tuple[int, int]] = set()
    chosen = []
    rows = np.flatnonzero(wrong)
    for i in rows[np.argsort(-table.scores[rows], kind="stable")]:
        place = int(table.image[i]), int(table.gt_of[i])
        if images[place[0]].found_by[place[1]] < 0 and place not in taken:
            taken.add(place)
            chosen.append(int(i))
    return chosen


def scores_by_threshold(
    images: Sequence[MatchedImage], num_classes: int, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall of each class for detections above score thresholds.

    Args:
        thresholds: (T,) ascending.

    Returns:
        (K, T) precision, nan without detections, and (K, T) recall, nan without objects.
    """
    table = _table(images, num_classes)
    precision, recall = (np.full((num_classes, len(thresholds)), np.nan) for _ in range(2))
    for kind in range(num_classes):
        rows = table.classes == kind
        right = np.sort(table.scores[rows & (table.kinds == CORRECT)])
        all_scores = np.sort(table.scores[rows])
        true = len(right) - np.searchsorted(right, thresholds)
        detected = len(all_scores) - np.searchsorted(all_scores, thresholds)
        np.divide(true, detected, out=precision[kind], where=detected > 0)
        if table.counts[kind]:
            recall[kind] = true / table.counts[kind]
    return precision, recall


def confusion_matrices(
    images: Sequence[MatchedImage], num_classes: int, thresholds: np.ndarray
) -> np.ndarray:
    """Return the confusion matrices of detections above score thresholds.

    Returns:
        (T, K + 1, K + 1): rows are the classes of objects, columns those of the detections matched
        to them; the last row is background, the last column objects without a detection.
    """
    matrices = np.zeros((len(thresholds), num_classes + 1, num_classes + 1), int)
    for image in images:
        objects = image.objects
        gt_classes = objects.gt_classes[~objects.gt_crowd]
        counts = np.bincount(gt_classes, minlength=num_classes)[:num_classes]
        matrices[:, :num_classes, num_classes] += counts
        for kind, at, score, what in zip(
            objects.classes, image.at, objects.scores, image.kinds, strict=True
        ):
            passed = thresholds <= score
            if at >= 0:
                true = objects.gt_classes[at]
                matrices[passed, true, kind] += 1
                matrices[passed, true, num_classes] -= 1
            elif what != IGNORED:
                matrices[passed, num_classes, kind] += 1
    return matrices


def calibration(images: Sequence[MatchedImage], bins: int = 10) -> list[tuple[float, float, int]]:
    """Compare scores with the fraction of correct detections.

    Returns:
        For each of `bins` equal score ranges, the mean score, the fraction of correct detections
        (both nan for an empty range), and the number of detections.
    """
    table = _table(images, int(max((i.objects.gt_classes.max(initial=-1) for i in images),
                                   default=-1)) + 1)  # fmt: skip
    index = np.minimum((table.scores * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        chosen = index == number
        count = int(chosen.sum())
        mean = float(table.scores[chosen].mean()) if count else float("nan")
        right = float((table.kinds[chosen] == CORRECT).mean()) if count else float("nan")
        rows.append((mean, right, count))
    return rows
