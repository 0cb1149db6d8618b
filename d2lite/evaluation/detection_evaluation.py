"""Base class of the evaluators for COCO and LVIS detections."""

import copy
import itertools
import json
import logging
import os
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch

from d2lite.config import CfgNode
from d2lite.data.catalog import MetadataCatalog
from d2lite.data.datasets.coco_export import category_ids
from d2lite.evaluation.class_names import unknown_class
from d2lite.evaluation.coco_json import image_id_of, instances_to_coco_json
from d2lite.evaluation.evaluator import DatasetEvaluator
from d2lite.evaluation.gather import gather_predictions, save_predictions
from d2lite.evaluation.proposal_recall import average_recalls, recall_names
from d2lite.evaluation.result_files import save_results
from d2lite.evaluation.tables import metrics_table
from d2lite.structures import BoxMode, Instances

# Task by key of a result in COCO's format, or of an annotation.
TASK_OF = {"bbox": "bbox", "segmentation": "segm", "keypoints": "keypoints"}
# The ground truth of each task, for messages.
_FIELDS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}


class DetectionEvaluator(DatasetEvaluator):
    """Base class of evaluators of boxes, masks and keypoints, and of the recall of box proposals.

    Detections are collected in COCO's results format. A subclass defines the three attributes
    below, returns the ground truth from `_truth`, and evaluates one task in `_evaluate_task`.
    """

    _metrics: dict[str, tuple[str, ...]]  # by task
    _results_file: str  # name of the results file in the output folder
    _first_category_id = 0  # for datasets whose metadata has no category ids
    _logger = logging.getLogger(__name__)

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None,
        distributed: bool,
        output_dir: str | None,
    ):
        """
        Args:
            dataset_name: name or URI.
            tasks: keys of `_metrics`; None takes those that the predictions have. A config, as in
                detectron2's older signature, is treated as None.
            distributed: gather the predictions of all processes; otherwise each evaluates its own.
            output_dir: for `instances_predictions.pth`, the results file, and `box_proposals.pkl`
                if there are proposals.
        """
        if tasks is None or isinstance(tasks, CfgNode):
            self._tasks = None
        else:
            self._tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        for task in sorted(set(self._tasks or ()) - self._metrics.keys()):
            raise ValueError(
                f"{type(self).__name__} has no task {task!r}; it has {sorted(self._metrics)}"
            )
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        self._predictions: list[dict] = []

    @property
    def _truth(self) -> Any:
        """The ground truth: an object with `dataset`, the contents of a COCO file."""
        raise NotImplementedError(f"{type(self).__name__} must define _truth")

    def _evaluate_task(
        self, results: list[dict], task: str, img_ids: list | None
    ) -> dict[str, float]:
        """Return the metrics of one task in percent, nan without results, and log a table of them.

        Args:
            results: in COCO's format.
            img_ids: evaluate these images only; None: all images of the dataset.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _evaluate_task")

    def reset(self) -> None:
        self._predictions = []

    # -- before training --------------------------------------------------------------------------

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """See `DatasetEvaluator.check`."""
        if not self._do_evaluation:
            return set()
        wanted = set(self._tasks or tasks) & self._metrics.keys()
        possible = self._tasks_of_truth()
        for task in sorted(wanted):
            if task in possible:
                self._check_task(task)
            elif self._tasks:
                raise ValueError(
                    f"dataset {self._metadata.name!r} has no {_FIELDS[task]} to evaluate {task!r}"
                )
            else:
                self._logger.warning(
                    "dataset %r has no %s: the model's are not evaluated",
                    self._metadata.name,
                    _FIELDS[task],
                )
        by_class = self._class_metrics()
        found = {
            f"{task}/{m}" for task in wanted & possible for m in (*self._metrics[task], *by_class)
        }
        return found | {f"box_proposals/{m}" for m in recall_names()}

    def _check_task(self, task: str) -> None:
        """Raise the errors that evaluating a task would raise for any predictions."""

    def _class_metrics(self) -> list[str]:
        """Return the names of the per-class metrics, which all tasks have."""
        return []

    def _tasks_of_truth(self) -> set[str]:
        """Return the tasks that the annotations allow.

        Raises:
            ValueError: some have masks, others have none.
        """
        annotations = self._truth.dataset.get("annotations", ())
        without_mask = [a for a in annotations if "segmentation" not in a]
        if 0 < len(without_mask) < len(annotations):
            raise ValueError(
                f"dataset {self._metadata.name!r}: {len(without_mask)} of the "
                f"{len(annotations)} annotations have no 'segmentation', the first is in image "
                f"{without_mask[0]['image_id']!r}; give masks to all of them, or to none"
            )
        keys = {"bbox"}.union(*annotations)
        return {task for key, task in TASK_OF.items() if key in keys} & self._metrics.keys()

    # -- batch by batch ---------------------------------------------------------------------------

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Process the predictions of one batch.

        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances" and/or "proposals", both `Instances`.
        """
        for inp, output in zip(inputs, outputs, strict=True):
            prediction: dict[str, Any] = {"image_id": image_id_of(inp)}
            if "instances" in output:
                instances = output["instances"].to(self._cpu_device)
                prediction["instances"] = self.instances_to_json(instances, inp["image_id"])
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to(self._cpu_device)
            if len(prediction) > 1:
                self._predictions.append(prediction)

    def instances_to_json(self, instances: Instances, img_id: int) -> list[dict]:
        """Return the detections of one image in COCO's results format."""
        return instances_to_coco_json(instances, img_id)

    # -- at the end -------------------------------------------------------------------------------

    def evaluate(self, img_ids: list | None = None) -> dict:
        """Return the metrics of everything processed, by task.

        Args:
            img_ids: evaluate these images only; None: all images of the dataset.
        """
        predictions = gather_predictions(self._predictions, self._distributed)
        if predictions is None:
            return {}
        if not predictions:
            self._logger.warning("[%s] Did not receive valid predictions.", type(self).__name__)
            return {}
        if self._output_dir:
            save_predictions(predictions, self._output_dir)
        self._results = OrderedDict()
        if "proposals" in predictions[0]:
            self._eval_box_proposals(predictions)
        if "instances" in predictions[0]:
            # Overridden in many programs, some without the parameter for image ids.
            chosen = {} if img_ids is None else {"img_ids": img_ids}
            self._eval_predictions(predictions, **chosen)
        return copy.deepcopy(self._results)

    def _eval_predictions(self, predictions: list[dict], img_ids: list | None = None) -> None:
        """Fill self._results with the metrics of every task."""
        results = list(itertools.chain.from_iterable(p["instances"] for p in predictions))
        # From class indices to the dataset's category ids. Results of classes for which it has no
        # category, and so no object either, are left out.
        to_id = category_ids(self._metadata, self._first_category_id)
        for result in results:
            index = result["category_id"]
            if index not in to_id and not 0 <= index < len(self._metadata.thing_classes):
                raise unknown_class(index, self._metadata)
            result["category_id"] = to_id.get(index)
        results = [result for result in results if result["category_id"] is not None]
        if self._output_dir:
            path = os.path.join(self._output_dir, self._results_file)
            self._logger.info("Saving results to %s", path)
            save_results(path, json.dumps(results))
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        tasks = self._tasks or set(self._tasks_from_predictions(results)) & self._tasks_of_truth()
        for task in sorted(tasks):
            self._results[task] = self._evaluate_task(results, task, img_ids)

    def _tasks_from_predictions(self, predictions: list[dict]) -> set[str]:
        """Return the tasks that the results of all images allow."""
        keys = {"bbox"}.union(*predictions)
        return {task for key, task in TASK_OF.items() if key in keys}

    def _eval_box_proposals(self, predictions: list[dict]) -> None:
        """Fill self._results with the recall of the best 100 and 1000 proposals.

        The proposals are saved as a file for DATASETS.PROPOSAL_FILES_TRAIN and _TEST.
        """
        if self._output_dir:
            proposals = [p["proposals"] for p in predictions]
            content = {
                "boxes": [p.proposal_boxes.tensor.numpy() for p in proposals],
                "objectness_logits": [p.objectness_logits.numpy() for p in proposals],
                "ids": [p["image_id"] for p in predictions],
                "bbox_mode": BoxMode.XYXY_ABS.value,
            }
            path = os.path.join(self._output_dir, "box_proposals.pkl")
            save_results(path, lambda file: pickle.dump(content, file))
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        annotations = defaultdict(list)
        for annotation in self._truth.dataset["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        recalls = average_recalls(predictions, lambda image_id: annotations[image_id])
        table = metrics_table(recalls, {}, "box_proposals")
        self._logger.info("Proposal metrics: \n%s", table)
        self._results["box_proposals"] = recalls
