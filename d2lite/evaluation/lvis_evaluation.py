"""LVIS's AP: categories that an image was not checked for do not count in it."""

import copy
import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch

from d2lite.data.catalog import Metadata, MetadataCatalog
from d2lite.data.datasets.coco_export import coco_table
from d2lite.data.ground_truth import load_ground_truth

from .coco_json import image_id_of, instances_to_coco_json
from .evaluator import DatasetEvaluator
from .gather import gather_predictions, save_predictions
from .numpy_names import removed_numpy_names
from .proposal_recall import average_recalls, recall_names
from .result_files import save_results
from .tables import metrics_table

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
TASKS = ("bbox", "segm")
DEFAULT_MAX_DETS = 300  # per image, the official limit of LVIS


class LVISEvaluator(DatasetEvaluator):
    """AP for boxes and masks on LVIS, over all categories and the rare, common and frequent ones.

    Also the average recall of box proposals, where the model gives those.
    """

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
            dataset_name: its dicts, which training sees too, are the ground truth.
            tasks: some of "bbox", "segm"; None takes what the predictions hold.
            distributed: gather the predictions of all processes.
            output_dir: for `instances_predictions.pth` and `lvis_instances_results.json`.
            max_dets_per_image: detections that count in an image; default 300.
        """
        _import_lvis()
        self._logger = logging.getLogger(__name__)
        unknown = set(tasks or ()) - set(TASKS)
        if unknown:
            raise ValueError(f"LVISEvaluator has no task {sorted(unknown)[0]!r}; it has {TASKS}")
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets_per_image = max_dets_per_image
        self._cpu_device = torch.device("cpu")
        records = load_ground_truth(dataset_name)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._lvis_api = lvis_api(records, self._metadata)
        # The test set has no annotations.
        self._do_evaluation = len(self._lvis_api.get_ann_ids()) > 0
        self._predictions: list[dict] = []

    def reset(self) -> None:
        self._predictions = []

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """See `DatasetEvaluator.check`."""
        found = {f"{task}/{m}" for task in set(self._tasks or tasks) & set(TASKS) for m in METRICS}
        return found | {f"box_proposals/{m}" for m in recall_names()}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for inp, output in zip(inputs, outputs, strict=True):
            prediction: dict[str, Any] = {"image_id": image_id_of(inp)}
            if "instances" in output:
                instances = output["instances"].to(self._cpu_device)
                prediction["instances"] = instances_to_coco_json(instances, inp["image_id"])
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to(self._cpu_device)
            self._predictions.append(prediction)

    def evaluate(self) -> dict | None:
        predictions = gather_predictions(self._predictions, self._distributed)
        if predictions is None:
            return None
        if not predictions:
            self._logger.warning("[LVISEvaluator] Did not receive valid predictions.")
            return {}
        if self._output_dir:
            save_predictions(predictions, self._output_dir)
        self._results: OrderedDict = OrderedDict()
        if "proposals" in predictions[0]:
            self._eval_box_proposals(predictions)
        if "instances" in predictions[0]:
            self._eval_predictions(predictions)
        return copy.deepcopy(self._results)

    def _eval_predictions(self, predictions: list[dict]) -> None:
        results = list(itertools.chain.from_iterable(p["instances"] for p in predictions))
        self._to_dataset_categories(results)
        if self._output_dir:
            path = os.path.join(self._output_dir, "lvis_instances_results.json")
            self._logger.info(f"Saving results to {path}")
            save_results(path, json.dumps(results))
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        for task in sorted(self._tasks or self._tasks_from_predictions(results)):
            self._results[task] = self._evaluate_task(results, task)

    def _tasks_from_predictions(self, predictions: list[dict]) -> tuple[str, ...]:
        """Return the tasks that the results of all images allow."""
        has_masks = any("segmentation" in result for result in predictions)
        return TASKS if has_masks else ("bbox",)

    def _to_dataset_categories(self, results: list[dict]) -> None:
        """Replace class indices by category ids."""
        to_id = _category_ids(self._metadata)
        for result in results:
            index = result["category_id"]
            if index not in to_id:
                raise ValueError(
                    f"a prediction has class {index}, but dataset {self._metadata.name!r} has "
                    f"classes 0 to {len(to_id) - 1}; set NUM_CLASSES to {len(to_id)}"
                )
            result["category_id"] = to_id[index]

    def _evaluate_task(self, results: list[dict], task: str) -> dict[str, float]:
        if not results:
            self._logger.warning("No predictions from the model!")
            return dict.fromkeys(METRICS, float("nan"))
        metrics = evaluate_predictions_on_lvis(
            self._lvis_api, results, task, self._max_dets_per_image
        )
        table = metrics_table(metrics, {}, task)
        self._logger.info(f"Evaluation results for {task}: \n{table}")
        return metrics

    def _eval_box_proposals(self, predictions: list[dict]) -> None:
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        api = self._lvis_api
        recalls = average_recalls(
            predictions, lambda image_id: api.load_anns(api.get_ann_ids(img_ids=[image_id]))
        )
        self._logger.info("Proposal metrics: \n" + metrics_table(recalls, {}, "box_proposals"))
        self._results["box_proposals"] = recalls


def _category_ids(metadata: Metadata) -> dict[int, int]:
    """Class index -> category id: those of LVIS count from 1."""
    to_index = metadata.get("thing_dataset_id_to_contiguous_id")
    if to_index:
        return {index: category for category, index in to_index.items()}
    return {index: index + 1 for index in range(len(metadata.thing_classes))}


def _frequency(metadata: Metadata) -> dict[int, str]:
    """How frequent each category is, by id: LVIS's groups of up to 10 and up to 100 images."""
    counts = metadata.get("class_image_count")
    if counts is None:
        raise ValueError(
            f"dataset {metadata.name!r}: LVIS's metric needs to know which categories are rare, "
            "common or frequent; set category_frequency in its metadata, a dict from category id "
            "to 'r', 'c' or 'f'"
        )
    groups = ((10, "r"), (100, "c"), (float("inf"), "f"))
    return {
        row["id"]: next(group for limit, group in groups if row["image_count"] <= limit)
        for row in counts
    }


def lvis_api(records: list[dict], metadata: Metadata) -> Any:
    """An `lvis.LVIS` of what would be in an LVIS file.

    Args:
        records: what `load_ground_truth` returned.
        metadata: has `thing_classes`, and `category_frequency` ("r", "c" or "f" by category id) or
            `class_image_count`, from which it follows.
    Raises:
        ValueError: it is not known how frequent the categories are.
    """
    to_id = _category_ids(metadata)
    table = coco_table(records, metadata, to_id)
    for image, record in zip(table["images"], records, strict=True):
        image["neg_category_ids"] = record.get("neg_category_ids", [])
        image["not_exhaustive_category_ids"] = record.get("not_exhaustive_category_ids", [])
    frequency = metadata.get("category_frequency") or _frequency(metadata)
    kind = _import_lvis().LVIS
    api = kind.__new__(kind)  # its __init__ reads a file
    api.logger = logging.getLogger(__name__)
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
    lvis_gt: Any, lvis_results: list[dict], iou_type: str, max_dets_per_image: int | None = None
) -> dict[str, float]:
    """Return LVIS's metrics of one task in percent.

    Args:
        lvis_gt: an `lvis.LVIS`.
        lvis_results: at least one result, in COCO's format.
        iou_type: "bbox" or "segm".
        max_dets_per_image: detections that count in an image; default 300.
    """
    # LVISResults takes areas from the boxes where there are any; for masks, those of the masks.
    drop = "bbox" if iou_type == "segm" else None
    kept = [{k: v for k, v in result.items() if k != drop} for result in lvis_results]
    limit = DEFAULT_MAX_DETS if max_dets_per_image is None else max_dets_per_image
    lvis = _import_lvis()
    lvis_eval = lvis.LVISEval(lvis_gt, lvis.LVISResults(lvis_gt, kept, max_dets=limit), iou_type)
    with removed_numpy_names(lvis.eval):  # lvis 0.5.3 uses np.float
        lvis_eval.run()
    values = lvis_eval.get_results()
    return {metric: float(values[metric] * 100) for metric in METRICS}


def _import_lvis():
    try:
        import lvis.eval
    except ImportError as e:
        raise ImportError("LVISEvaluator needs the package lvis: pip install 'd2lite[lvis]'") from e
    return lvis
