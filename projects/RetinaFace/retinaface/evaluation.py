"""How far landmarks lie from where they belong."""

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
    """Give each detection, best first, the ground truth that it overlaps most and that is free.

    Args:
        iou: (M, D) of ground truths and detections.
        scores: (D,).
        threshold: least IoU of a match.
    Returns:
        (M,) int64: the detection of each ground truth, -1 where it has none.
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
    """Mean distance of an object's landmarks from the truth, in sides of its box.

    Args:
        points: (M, L, 2) x and y.
        truth: (M, L, 3) x, y and visibility; points of visibility 0 do not count.
        boxes: (M, 4) XYXY; their side is the root of their area.
    Returns:
        (M,); nan for objects without a labeled landmark.
    """
    labeled = truth[..., 2] > 0  # (M, L)
    distance = (points - truth[..., :2]).norm(dim=2)
    mean = (distance * labeled).sum(dim=1) / labeled.sum(dim=1)
    return mean / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()


class LandmarkEvaluator(DatasetEvaluator):
    """Normalized mean error of the landmarks of detected objects, in percent.

    NME is the mean over detected objects of `normalized_error`, FR10 the share of those whose error
    is above a tenth of the box, and Detected the share of objects with landmarks that some
    detection of their class, of whatever score, overlaps by an IoU of 0.5.
    """

    def __init__(self, dataset_name: str, distributed: bool = True):
        """
        Args:
            dataset_name: name or URI of a dataset with keypoints.
            distributed: gather what all processes have seen.
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
        """{"landmarks": {"NME", "FR10", "Detected"}}; empty without any object with landmarks."""
        gathered = gather_predictions(self._errors, self._distributed)
        if not gathered:
            return {}
        errors = np.array(gathered)
        detected = errors[~np.isnan(errors)]
        some = len(detected) > 0
        figures = {
            "NME": float(100 * detected.mean()) if some else float("nan"),
            "FR10": float(100 * (detected > FAILURE).mean()) if some else float("nan"),
            "Detected": 100 * len(detected) / len(errors),
        }
        table = metrics_table(figures, {}, "landmarks")
        logger.info("Landmarks of %s objects: \n%s", len(errors), table)
        return OrderedDict(landmarks=figures)

    def _errors_of(self, record: dict, found: Instances) -> list[float]:
        """One error for each object of an image that has a labeled landmark."""
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


# What `evaluator_type: landmarks` in a dataset's metadata means.
EVALUATORS["landmarks"] = (*EVALUATORS["coco"], LandmarkEvaluator)
