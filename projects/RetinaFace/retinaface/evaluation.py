"""Distance of predicted landmarks from the ground truth."""

import logging
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from d2lite.data import DatasetCatalog
from d2lite.evaluation import DatasetEvaluator
from d2lite.evaluation.build import EVALUATORS
from d2lite.evaluation.gather import gather_predictions
from d2lite.evaluation.tables import metrics_table
from d2lite.structures import Boxes, BoxMode, Instances, pairwise_iou

logger = logging.getLogger(__name__)

IOU_THRESHOLD = 0.5
FAILURE = 0.1  # normalized error above which landmarks count as failed


def match_by_score(iou: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Match detections, best first, with the free object that they overlap most.

    Args:
        iou: (M, D) of objects and detections.
        scores: (D,).
        threshold: minimum IoU of a match.
    Returns:
        (M,) int64: the detection of each object, or -1.
    """
    found = torch.full((iou.shape[0],), -1, dtype=torch.int64)
    if iou.shape[0] == 0:
        return found
    for detection in scores.argsort(descending=True, stable=True).tolist():
        overlap = iou[:, detection].masked_fill(found >= 0, -1.0)
        best = int(overlap.argmax())
        if overlap[best] >= threshold:
            found[best] = detection
    return found


def normalized_error(points: Tensor, truth: Tensor, boxes: Tensor) -> Tensor:
    """Return the mean distance of each object's landmarks from the truth, relative to its box.

    Args:
        points: (M, L, 2) x and y.
        truth: (M, L, 3) x, y and visibility; points of visibility 0 do not count.
        boxes: (M, 4) XYXY; distances are divided by the square root of the area.
    Returns:
        (M,); nan for objects without a labeled landmark.
    """
    labeled = truth[..., 2] > 0  # (M, L)
    distance = (points - truth[..., :2]).norm(dim=2)
    mean = (distance * labeled).sum(dim=1) / labeled.sum(dim=1)
    return mean / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()


class LandmarkEvaluator(DatasetEvaluator):
    """Evaluator of the normalized mean error of landmarks, in percent.

    NME is the mean `normalized_error` over detected objects, FR10 the share of those whose error is
    above 0.1, and Detected the share of objects with landmarks that a detection of their class,
    with any score, overlaps with an IoU of at least 0.5.
    """

    def __init__(self, dataset_name: str, distributed: bool = True):
        """
        Args:
            dataset_name: name or URI of a dataset with keypoints.
            distributed: gather the results of all processes.
        """
        self._distributed = distributed
        self._truth = {record["image_id"]: record for record in DatasetCatalog.get(dataset_name)}
        self.reset()

    def reset(self) -> None:
        self._errors: list[float] = []  # nan where an object was not detected

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for inp, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            if found.has("pred_keypoints"):
                self._errors += self._errors_of(self._truth[inp["image_id"]], found)

    def evaluate(self) -> dict:
        """Return {"landmarks": {"NME", "FR10", "Detected"}}; empty if no object has landmarks."""
        gathered = gather_predictions(self._errors, self._distributed)
        if not gathered:
            return {}
        errors = np.array(gathered)
        detected = errors[~np.isnan(errors)]
        some = len(detected) > 0
        metrics = {
            "NME": float(100 * detected.mean()) if some else float("nan"),
            "FR10": float(100 * (detected > FAILURE).mean()) if some else float("nan"),
            "Detected": 100 * len(detected) / len(errors),
        }
        table = metrics_table(metrics, {}, "landmarks")
        logger.info("Landmarks of %s objects: \n%s", len(errors), table)
        return OrderedDict(landmarks=metrics)

    def _errors_of(self, record: dict, found: Instances) -> list[float]:
        """Return one error for each object of an image that has a labeled landmark."""
        objects = [
            a
            for a in record["annotations"]
            if not a.get("iscrowd", 0) and any(v > 0 for v in a.get("keypoints", ())[2::3])
        ]
        if not objects:
            return []
        boxes = torch.tensor(
            [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
        ).float()
        classes = torch.tensor([a["category_id"] for a in objects])
        iou = pairwise_iou(Boxes(boxes), found.pred_boxes)
        iou[classes[:, None] != found.pred_classes[None]] = -1.0
        match = match_by_score(iou, found.scores, IOU_THRESHOLD)
        errors = torch.full((len(objects),), torch.nan)
        seen = match >= 0
        truth = torch.tensor([a["keypoints"] for a in objects]).float().unflatten(1, (-1, 3))
        points = found.pred_keypoints[match[seen], :, :2]
        errors[seen] = normalized_error(points, truth[seen], boxes[seen])
        return errors.tolist()


# The evaluators for `evaluator_type` "landmarks" in the metadata of a dataset.
EVALUATORS["landmarks"] = (*EVALUATORS["coco"], LandmarkEvaluator)
