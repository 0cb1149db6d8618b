"""The metric of Pascal VOC, at its own IoU threshold of 0.5 and at COCO's."""

import logging
import os
from collections import OrderedDict, defaultdict

import numpy as np
import torch

from d2lite.data.catalog import MetadataCatalog
from d2lite.utils import comm
from d2lite.utils.file_io import PathManager

from .evaluator import DatasetEvaluator
from .tables import metrics_table
from .voc_ap import (
    average_precision,
    objects_of_class,
    parse_rec,
    read_detections,
    voc_ap,
    voc_eval,
)

__all__ = ["PascalVOCDetectionEvaluator", "parse_rec", "voc_ap", "voc_eval"]

THRESHOLDS = range(50, 100, 5)  # percent


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """AP of a data set in VOC's layout, by VOC's rules: objects marked difficult do not count.

    It is close to COCO's AP50, but not the same: IoU counts pixels, matching differs, and for
    2007 the AP is taken from 11 points of recall.
    """

    def __init__(self, dataset_name: str):
        """dataset_name: name or URI whose metadata has `dirname`, `split` and `year`."""
        self._dataset_name = dataset_name
        meta = MetadataCatalog.get(dataset_name)
        if meta.year not in (2007, 2012):
            raise ValueError(f"data set {dataset_name!r}: year is {meta.year}; use 2007 or 2012")
        dirname = PathManager.get_local_path(meta.dirname)
        self._anno_file_template = os.path.join(dirname, "Annotations", "{}.xml")
        self._image_set_path = os.path.join(dirname, "ImageSets", "Main", meta.split + ".txt")
        self._class_names = meta.thing_classes
        self._is_2007 = meta.year == 2007
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[int, list[str]] = defaultdict(list)  # lines of text by class index

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for inp, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to(self._cpu_device)
            # VOC counts pixels from 1; 1 was taken from xmin and ymin when its boxes were read.
            boxes = instances.pred_boxes.tensor.numpy() + np.array([1, 1, 0, 0])
            rows = zip(
                boxes, instances.scores.tolist(), instances.pred_classes.tolist(), strict=True
            )
            for box, score, category in rows:
                # Rounded as in the files that VOC's own program reads.
                sides = " ".join(f"{v:.1f}" for v in box)
                self._predictions[category].append(f"{inp['image_id']} {score:.3f} {sides}")

    def evaluate(self) -> dict | None:
        """{"bbox": {"AP", "AP50", "AP75"}} in percent, the mean over classes that occur."""
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        lines = defaultdict(list)
        for predictions in gathered:
            for category, found in predictions.items():
                lines[category].extend(found)
        self._logger.info(
            f"Evaluating {self._dataset_name} by the rules of VOC {2007 if self._is_2007 else 2012}"
        )
        with PathManager.open(self._image_set_path) as f:
            image_ids = [line.split()[0] for line in f if line.strip()]
        records = {i: parse_rec(self._anno_file_template.format(i)) for i in image_ids}
        aps = np.array(
            [
                self._evaluate_class(lines[index], records, name)
                for index, name in enumerate(self._class_names)
            ]
        )  # (K, T)
        return OrderedDict(bbox=self._report(aps))

    def _evaluate_class(
        self, lines: list[str], records: dict[str, list[dict]], name: str
    ) -> list[float]:
        """AP in percent at every threshold."""
        detections = read_detections(lines)
        truth = objects_of_class(records, name)
        return [
            average_precision(detections, truth, threshold / 100, self._is_2007)[2] * 100
            for threshold in THRESHOLDS
        ]

    def _report(self, aps: np.ndarray) -> dict[str, float]:
        columns = {"AP": slice(None), "AP50": [0], "AP75": [THRESHOLDS.index(75)]}
        present = aps[~np.isnan(aps[:, 0])]  # classes without objects have no AP
        present = present if len(present) else aps
        results = {metric: float(present[:, c].mean()) for metric, c in columns.items()}
        by_class = {
            name: {metric: float(row[c].mean()) for metric, c in columns.items()}
            for name, row in zip(self._class_names, aps, strict=True)
        }
        self._logger.info(
            "Evaluation results for bbox: \n" + metrics_table(results, by_class, "bbox")
        )
        return results
