"""The metric of Pascal VOC, at its IoU threshold of 0.5 and at those of COCO."""

import logging
import os
from collections import OrderedDict, defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from d2lite.data.catalog import MetadataCatalog
from d2lite.data.detection_utils import get_bbox
from d2lite.data.ground_truth import load_ground_truth
from d2lite.evaluation.class_names import distinct_names, unknown_class
from d2lite.evaluation.coco_json import image_id_of
from d2lite.evaluation.evaluator import DatasetEvaluator
from d2lite.evaluation.tables import metrics_table
from d2lite.evaluation.voc_ap import VocDetections, VocObjects, average_precision
from d2lite.utils import comm

THRESHOLDS = range(50, 100, 5)  # percent


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """AP by VOC's rules: objects marked as difficult do not count.

    It is close to COCO's AP50, but not the same: IoU counts pixels, matching differs, and for
    2007 the AP is computed at 11 recalls.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: name or URI. The ground truth is its dataset dicts, as in training;
                annotations may have "difficult". The `year` of its metadata, 2007 or 2012 (the
                default), selects the metric.
        """
        self._dataset_name = dataset_name
        records = load_ground_truth(dataset_name)
        self._metadata = meta = MetadataCatalog.get(dataset_name)
        year = meta.get("year", 2012)
        if year not in (2007, 2012):
            raise ValueError(f"dataset {dataset_name!r}: year is {year}; use 2007 or 2012")
        self._class_names = meta.thing_classes
        self._is_2007 = year == 2007
        # By class, the objects of each image.
        self._truth: list[dict[Any, VocObjects]] = [{} for _ in self._class_names]
        for category, truth in enumerate(self._truth):
            for record in records:
                kept = [a for a in record.get("annotations", ()) if a["category_id"] == category]
                boxes = np.array([get_bbox(a) for a in kept], dtype=float).reshape(-1, 4)
                difficult = np.array([a.get("difficult", 0) for a in kept], dtype=bool)
                truth[record["image_id"]] = VocObjects(boxes + _TO_PIXELS, difficult)
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)
        self.reset()

    # Paths of the files, for subclasses that evaluate with `voc_eval`.
    @property
    def _anno_file_template(self) -> str:
        return os.path.join(self._metadata.dirname, "Annotations", "{}.xml")

    @property
    def _image_set_path(self) -> str:
        return os.path.join(
            self._metadata.dirname, "ImageSets", "Main", f"{self._metadata.split}.txt"
        )

    def reset(self) -> None:
        # By class index: (image id, score, xmin, ymin, xmax, ymax).
        self._predictions: dict[int, list[tuple]] = defaultdict(list)

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """See `DatasetEvaluator.check`."""
        return {"bbox/AP", "bbox/AP50", "bbox/AP75"}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for inp, output in zip(inputs, outputs, strict=True):
            image_id = image_id_of(inp)
            instances = output["instances"].to(self._cpu_device)
            boxes = instances.pred_boxes.tensor.numpy()
            if boxes.shape[1] != 4:
                raise ValueError(
                    "VOC's metric has no rotated boxes; set evaluator_type rotated_coco"
                )
            boxes = boxes + _TO_PIXELS
            rows = zip(
                boxes, instances.scores.tolist(), instances.pred_classes.tolist(), strict=True
            )
            for box, score, category in rows:
                # Rounded as in the files that VOC's program reads.
                sides = (round(float(side), 1) for side in box)
                self._predictions[category].append((image_id, round(score, 3), *sides))

    def evaluate(self) -> dict | None:
        """Return {"bbox": {"AP", "AP50", "AP75"}} in percent, the mean over classes that occur."""
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        rows = defaultdict(list)
        for predictions in gathered:
            for category, found in predictions.items():
                rows[category].extend(found)
        unknown = [category for category in rows if not 0 <= category < len(self._class_names)]
        if unknown:
            raise unknown_class(unknown[0], self._metadata)
        self._logger.info(
            "Evaluating %s by the rules of VOC %s",
            self._dataset_name,
            2007 if self._is_2007 else 2012,
        )
        aps = []
        for index, truth in enumerate(self._truth):
            values = np.array([row[1:] for row in rows[index]], dtype=float).reshape(-1, 5)
            ids = [row[0] for row in rows[index]]
            detections = VocDetections(ids, values[:, 0], values[:, 1:])
            aps.append(
                [
                    average_precision(detections, truth, threshold / 100, self._is_2007)[2] * 100
                    for threshold in THRESHOLDS
                ]
            )
        return OrderedDict(bbox=self._report(np.array(aps)))  # (K, T), in percent

    def _report(self, aps: np.ndarray) -> dict[str, float]:
        columns = {"AP": slice(None), "AP50": [0], "AP75": [THRESHOLDS.index(75)]}
        present = aps[~np.isnan(aps[:, 0])]  # classes without objects have no AP
        present = present if len(present) else aps
        results = {metric: float(present[:, c].mean()) for metric, c in columns.items()}
        by_class = {
            name: {metric: float(row[c].mean()) for metric, c in columns.items()}
            for name, row in zip(distinct_names(self._class_names), aps, strict=True)
        }
        self._logger.info(
            "Evaluation results for bbox: \n%s", metrics_table(results, by_class, "bbox")
        )
        return results


# VOC counts pixels from 1; 1 was subtracted from xmin and ymin when its boxes were read.
_TO_PIXELS = np.array([1, 1, 0, 0])
