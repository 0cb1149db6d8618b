"""LVIS's AP, in which an image only counts for the categories that were checked in it."""

import logging
from typing import Any

from d2lite.data.catalog import Metadata
from d2lite.data.datasets.coco_export import category_ids, coco_table
from d2lite.data.ground_truth import load_ground_truth
from d2lite.evaluation.detection_evaluation import DetectionEvaluator
from d2lite.evaluation.evaluator import Settings
from d2lite.evaluation.numpy_names import removed_numpy_names
from d2lite.evaluation.tables import metrics_table
from d2lite.utils.extras import import_extra

logger = logging.getLogger(__name__)

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
FIRST_CATEGORY_ID = 1  # LVIS counts its categories from 1
# Maximum number of images of rare, common and frequent categories.
GROUPS = ((10, "r"), (100, "c"), (float("inf"), "f"))
DEFAULT_MAX_DETS = 300  # per image, the official limit of LVIS


class LVISEvaluator(DetectionEvaluator):
    """AP for boxes and masks on LVIS, over all categories and the rare, common and frequent ones.

    For models that return box proposals, it computes their average recall.
    """

    _metrics = dict.fromkeys(("bbox", "segm"), METRICS)
    _results_file = "lvis_instances_results.json"
    _first_category_id = FIRST_CATEGORY_ID
    _logger = logger

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
    ):
        """
        Args:
            dataset_name: name or URI. The ground truth is its dataset dicts, as in training.
            tasks: any of "bbox", "segm"; None takes those that the predictions have.
            distributed: gather the predictions of all processes; otherwise each evaluates its own.
            output_dir: for `instances_predictions.pth` and `lvis_instances_results.json`.
            max_dets_per_image: number of detections that count per image; default 300.
        """
        _import_lvis()
        super().__init__(dataset_name, tasks, distributed, output_dir)
        self._max_dets_per_image = max_dets_per_image
        self._lvis_api = lvis_api(load_ground_truth(dataset_name), self._metadata)
        # The test set has no annotations.
        self._do_evaluation = len(self._lvis_api.get_ann_ids()) > 0

    @classmethod
    def from_settings(cls, dataset_name: str, settings: Settings) -> "LVISEvaluator":
        """See `DatasetEvaluator.from_settings`."""
        return cls(
            dataset_name,
            settings.tasks,
            output_dir=settings.output_dir,
            max_dets_per_image=settings.limit(DEFAULT_MAX_DETS),
        )

    @property
    def _truth(self) -> Any:
        return self._lvis_api

    def _evaluate_task(
        self, results: list[dict], task: str, img_ids: list | None
    ) -> dict[str, float]:
        if not results:
            self._logger.warning("No predictions from the model!")
            return dict.fromkeys(METRICS, float("nan"))
        metrics = evaluate_predictions_on_lvis(
            self._lvis_api, results, task, self._max_dets_per_image, img_ids
        )
        table = metrics_table(metrics, {}, task)
        self._logger.info("Evaluation results for %s: \n%s", task, table)
        return metrics


def lvis_api(records: list[dict], metadata: Metadata) -> Any:
    """Return the ground truth as an `lvis.LVIS`, without a file.

    Args:
        records: the result of `load_ground_truth`.
        metadata: has `thing_classes`, and `category_frequency` ("r", "c" or "f" by category id) or
            `class_image_count`, from which it is computed.
    Raises:
        ValueError: the frequency of the categories is unknown.
    """
    table = coco_table(records, metadata, category_ids(metadata, FIRST_CATEGORY_ID))
    for image, record in zip(table["images"], records, strict=True):
        image["neg_category_ids"] = record.get("neg_category_ids", [])
        image["not_exhaustive_category_ids"] = record.get("not_exhaustive_category_ids", [])
    frequency = metadata.get("category_frequency")
    if not frequency:
        if metadata.get("class_image_count") is None:
            raise ValueError(
                f"dataset {metadata.name!r}: LVIS's metric needs to know which categories are "
                "rare, common or frequent; set category_frequency in its metadata, a dict from "
                "category id to 'r', 'c' or 'f'"
            )
        frequency = {
            row["id"]: next(group for limit, group in GROUPS if row["image_count"] <= limit)
            for row in metadata.class_image_count
        }
    kind = _import_lvis().LVIS
    api = kind.__new__(kind)  # its __init__ reads a file
    api.logger = logger
    api.dataset = {
        **table,
        "categories": [
            {**category, "frequency": frequency[category["id"]]}
            for category in table["categories"]
            if category["id"] in frequency
        ],
    }
    api._create_index()
    return api


def evaluate_predictions_on_lvis(
    lvis_gt: Any,
    lvis_results: list[dict],
    iou_type: str,
    max_dets_per_image: int | None = None,
    img_ids: list | None = None,
) -> dict[str, float]:
    """Return LVIS's metrics of one task in percent.

    Args:
        lvis_gt: an `lvis.LVIS`.
        lvis_results: at least one result, in COCO's format.
        iou_type: "bbox" or "segm".
        max_dets_per_image: number of detections that count per image; default 300.
        img_ids: evaluate these images only.
    """
    # LVISResults computes areas from the boxes if there are any; masks need the areas of the masks.
    drop = "bbox" if iou_type == "segm" else None
    kept = [{k: v for k, v in result.items() if k != drop} for result in lvis_results]
    limit = DEFAULT_MAX_DETS if max_dets_per_image is None else max_dets_per_image
    lvis = _import_lvis()
    lvis_eval = lvis.LVISEval(lvis_gt, lvis.LVISResults(lvis_gt, kept, max_dets=limit), iou_type)
    if img_ids is not None:
        lvis_eval.params.img_ids = list(img_ids)
    with removed_numpy_names(lvis.eval):  # lvis 0.5.3 uses np.float
        lvis_eval.run()
    values = lvis_eval.get_results()
    return {metric: float(values[metric] * 100) for metric in METRICS}


def _import_lvis():
    return import_extra("lvis", "lvis", "LVISEvaluator")
