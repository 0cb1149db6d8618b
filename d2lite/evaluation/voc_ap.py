"""Average precision by the rules of Pascal VOC."""

from dataclasses import dataclass

import numpy as np


@dataclass
class VocObjects:
    """Ground truth of one class in one image; boxes are pixel indices from 1, as in VOC."""

    boxes: np.ndarray  # (M, 4) xmin, ymin, xmax, ymax
    difficult: np.ndarray  # (M,) bool: these count neither as missed nor as false positives


@dataclass
class VocDetections:
    """Detections of one class in all images."""

    image_ids: list[str]
    scores: np.ndarray  # (N,)
    boxes: np.ndarray  # (N, 4) as in VocObjects


def average_precision(
    detections: VocDetections,
    truth: dict[str, VocObjects],
    threshold: float,
    use_07_metric: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return recall, precision and AP of one class, nan without objects; see `voc_eval`."""
    found = {image_id: np.zeros(len(t.boxes), bool) for image_id, t in truth.items()}
    order = np.argsort(-detections.scores, kind="stable")
    right, wrong = np.zeros(len(order)), np.zeros(len(order))
    for rank, index in enumerate(order):
        image_id = detections.image_ids[index]
        if image_id not in truth:
            raise KeyError(f"image {image_id!r} has detections but is not in the image set")
        objects = truth[image_id]
        overlaps = _iou_of_pixels(detections.boxes[index], objects.boxes)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] <= threshold:
            wrong[rank] = 1
        elif not objects.difficult[best]:
            # A second detection of an object is wrong.
            (wrong if found[image_id][best] else right)[rank] = 1
            found[image_id][best] = True
    num_objects = sum(int((~t.difficult).sum()) for t in truth.values())
    right, wrong = np.cumsum(right), np.cumsum(wrong)
    precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
    if num_objects == 0:
        return np.full(len(right), np.nan), precision, float("nan")
    recall = right / num_objects
    return recall, precision, voc_ap(recall, precision, use_07_metric)


def voc_ap(rec: np.ndarray, prec: np.ndarray, use_07_metric: bool = False) -> float:
    """Return the area under the curve of precision, made monotonic, over recall (VOC 2010+).

    Args:
        rec: ascending recalls.
        prec: the precision at each.
        use_07_metric: the mean of the precisions at recalls 0, 0.1, ..., 1 instead.
    """
    if use_07_metric:
        points = np.arange(0.0, 1.1, 0.1)
        return float(sum(np.max(prec[rec >= p], initial=0.0) for p in points) / 11.0)
    rec = np.concatenate([[0.0], rec, [1.0]])
    prec = np.concatenate([[0.0], prec, [0.0]])
    prec = np.maximum.accumulate(prec[::-1])[::-1]
    steps = np.flatnonzero(rec[1:] != rec[:-1])
    return float(np.sum((rec[steps + 1] - rec[steps]) * prec[steps + 1]))


def _iou_of_pixels(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the (M,) IoU, for boxes in which 1 to 1 is one pixel wide."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
    inter = sides.clip(min=0).prod(axis=1)
    area = (box[2:] - box[:2] + 1).prod()
    return inter / (area + (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) - inter)
