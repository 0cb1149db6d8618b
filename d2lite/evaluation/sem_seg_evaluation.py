"""Intersection over union and accuracy of semantic segmentation."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Collection

import cv2
import numpy as np
import torch

from d2lite.data.catalog import MetadataCatalog
from d2lite.data.ground_truth import load_ground_truth
from d2lite.data.image_io import read_image_size, read_labels
from d2lite.evaluation.class_names import distinct_names
from d2lite.evaluation.coco_json import encode_masks
from d2lite.evaluation.evaluator import DatasetEvaluator, Settings
from d2lite.evaluation.gather import gather_predictions
from d2lite.evaluation.result_files import save_results
from d2lite.evaluation.tables import metrics_table
from d2lite.utils import comm

LABELS_CHECKED = 50  # label images read before training; each takes a few milliseconds
BOUNDARY_SHARE = 0.02  # width of a boundary relative to the image's diagonal (Cheng et al., 2021)


def load_image_into_numpy_array(filename: str, dtype: type | None = None) -> np.ndarray:
    """Return the (H, W) labels of a file, or of an image drawn on demand."""
    return read_labels(filename).astype(dtype or np.int64)


def _compare_shapes(path: str, found: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    if expected not in (None, found):
        raise ValueError(f"{path}: labels have size {found}, but the prediction {expected}")


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, frequency-weighted IoU, boundary IoU and pixel accuracy of a semantic segmentation."""

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., np.ndarray] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ):
        """
        Args:
            dataset_name: a dataset with `sem_seg_file_name`; its metadata has `stuff_classes` and
                `ignore_label`.
            distributed: gather the results of all processes.
            output_dir: for `sem_seg_predictions.json` and `sem_seg_evaluation.pth`.
            sem_seg_loading_fn: takes a file name and `dtype`; returns the (H, W) ground truth.
            num_classes, ignore_label: from detectron2's older interface; the metadata has both, and
                a different number of classes is an error.
        """
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        records = load_ground_truth(dataset_name, sizes=False)
        for record in records:
            if "sem_seg_file_name" not in record:
                raise ValueError(
                    f"dataset {dataset_name!r}: {record.get('file_name')} has no "
                    "'sem_seg_file_name', the image of its labels"
                )
        self.input_file_to_gt_file = {r["file_name"]: r["sem_seg_file_name"] for r in records}
        self._metadata = meta = MetadataCatalog.get(dataset_name)
        if not meta.get("stuff_classes"):
            raise ValueError(
                f"dataset {dataset_name!r}: its metadata has no stuff_classes, the names of its "
                "labels; set them by MetadataCatalog.get(NAME).set(stuff_classes=[...])"
            )
        to_index = meta.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = (
            {v: k for k, v in to_index.items()} if to_index else None
        )
        self._class_names = distinct_names(meta.stuff_classes)
        self._num_classes = len(meta.stuff_classes)
        if num_classes not in (None, self._num_classes):
            raise ValueError(
                f"num_classes is {num_classes}, but dataset {dataset_name!r} has "
                f"{self._num_classes} stuff_classes"
            )
        self._ignore_label = meta.get("ignore_label") if ignore_label is None else ignore_label
        # Boundaries are computed on maps of bytes, in which one value means ignored pixels.
        self._compute_boundary_iou = self._num_classes < np.iinfo(np.uint8).max
        if not self._compute_boundary_iou:
            self._logger.warning(
                "no boundary IoU: it does not support %s classes", self._num_classes
            )
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.reset()

    @classmethod
    def from_settings(cls, dataset_name: str, settings: Settings) -> "SemSegEvaluator":
        """See `DatasetEvaluator.from_settings`."""
        return cls(dataset_name, output_dir=settings.output_dir)

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """Read labels of up to 50 images; see `DatasetEvaluator.check`."""
        file_names = list(self.input_file_to_gt_file)
        for file_name in file_names[:: max(1, len(file_names) // LABELS_CHECKED)]:
            self._ground_truth(file_name)
        return {f"sem_seg/{name}" for name in self._metrics()}

    def reset(self) -> None:
        size = (self._num_classes + 1, self._num_classes + 1)  # the last: ignored pixels
        self._conf_matrix = np.zeros(size, dtype=np.int64)  # [predicted, true]
        self._b_conf_matrix = np.zeros(size, dtype=np.int64)  # the same on boundaries
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Process the predictions of one batch.

        Args:
            inputs: dicts with "file_name".
            outputs: dicts with "sem_seg", (K, H, W) scores.
        """
        for inp, output in zip(inputs, outputs, strict=True):
            scores = output["sem_seg"]
            if len(scores) > self._num_classes:
                raise ValueError(
                    f"the model has {len(scores)} classes, dataset {self._dataset_name!r} has "
                    f"{self._num_classes}; set MODEL.SEM_SEG_HEAD.NUM_CLASSES to that"
                )
            pred = scores.argmax(dim=0).to(self._cpu_device).numpy().astype(np.int64)
            truth = self._ground_truth(inp["file_name"], pred.shape)
            self._conf_matrix += self._confusion(pred, truth)
            if self._compute_boundary_iou:
                of_pred, of_truth = (self._mask_to_boundary(x) for x in (pred, truth))
                self._b_conf_matrix += self._confusion(of_pred, of_truth)
            self._predictions.extend(self.encode_json_sem_seg(pred, inp["file_name"]))

    def _mask_to_boundary(
        self, mask: np.ndarray, dilation_ratio: float = BOUNDARY_SHARE
    ) -> np.ndarray:
        """Return the boundaries of an (H, W) label map, see `_boundary`."""
        return _boundary(mask, dilation_ratio)

    def _ground_truth(self, file_name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Return the (H, W) labels, in which ignored pixels have the number of classes."""
        path = self.input_file_to_gt_file[file_name]
        if self.sem_seg_loading_fn is load_image_into_numpy_array:
            # Checked before the pixels take memory.
            _compare_shapes(path, read_image_size(path), shape)
        truth = self.sem_seg_loading_fn(path, dtype=int)
        if truth.ndim != 2:
            raise ValueError(f"{path}: expected one label per pixel, got shape {truth.shape}")
        _compare_shapes(path, truth.shape, shape)
        if self._ignore_label is not None:
            truth[truth == self._ignore_label] = self._num_classes
        if truth.min(initial=0) < 0 or truth.max(initial=0) > self._num_classes:
            wrong = next(int(v) for v in np.unique(truth) if not 0 <= v <= self._num_classes)
            raise ValueError(
                f"{path}: has label {wrong}, but dataset {self._dataset_name!r} has classes 0 to "
                f"{self._num_classes - 1} and ignores {self._ignore_label}"
            )
        return truth

    def _confusion(self, pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
        size = self._num_classes + 1
        pairs = size * pred.reshape(-1).astype(np.int64) + truth.reshape(-1)
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    def evaluate(self) -> dict | None:
        """Return {"sem_seg": {metric: percent}}; nan for classes that do not occur."""
        predictions = gather_predictions(self._predictions, self._distributed)
        if self._distributed:
            confusions = comm.gather((self._conf_matrix, self._b_conf_matrix))
        if predictions is None:
            return None
        if self._distributed:
            self._conf_matrix = sum(c for c, _ in confusions)
            self._b_conf_matrix = sum(b for _, b in confusions)
        metrics = self._metrics()
        results = OrderedDict(sem_seg=metrics)
        self._save(predictions, metrics)
        self._logger.info("Evaluation results for sem_seg: \n%s", self._table(metrics))
        return results

    def _metrics(self) -> dict[str, float]:
        conf = self._conf_matrix.astype(float)
        true_pos = conf.diagonal()[:-1]
        pos_gt, pos_pred = conf[:-1, :-1].sum(axis=0), conf[:-1, :-1].sum(axis=1)
        acc = _ratio(true_pos, pos_gt)
        union = pos_gt + pos_pred - true_pos
        iou = _ratio(true_pos, np.where(pos_gt > 0, union, 0))
        weights = _ratio(pos_gt, pos_gt.sum())
        metrics = {"mIoU": _mean(iou), "fwIoU": 100 * float(np.nansum(iou * weights))}
        boundary_iou = None
        if self._compute_boundary_iou:
            b_conf = self._b_conf_matrix.astype(float)
            b_shared = b_conf.diagonal()[:-1]
            b_union = b_conf[:-1, :-1].sum(axis=0) + b_conf[:-1, :-1].sum(axis=1) - b_shared
            boundary_iou = _ratio(b_shared, b_union)
        for index, name in enumerate(self._class_names):
            metrics[f"IoU-{name}"] = 100 * float(iou[index])
            if boundary_iou is not None:
                metrics[f"BoundaryIoU-{name}"] = 100 * float(boundary_iou[index])
                # np.minimum: nan where the class does not occur
                least = np.minimum(iou[index], boundary_iou[index])
                metrics[f"min(IoU, B-Iou)-{name}"] = 100 * float(least)
        metrics["mACC"] = _mean(acc)
        metrics["pACC"] = 100 * float(_ratio(true_pos.sum(), pos_gt.sum()))
        metrics.update(
            {f"ACC-{n}": 100 * float(a) for n, a in zip(self._class_names, acc, strict=True)}
        )
        return metrics

    def _table(self, metrics: dict[str, float]) -> str:
        overall = {k: v for k, v in metrics.items() if "-" not in k}
        by_class = {
            name: {"mIoU": metrics[f"IoU-{name}"], "mACC": metrics[f"ACC-{name}"]}
            for name in self._class_names
        }
        return metrics_table(overall, by_class, "sem_seg")

    def _save(self, predictions: list[dict], metrics: dict[str, float]) -> None:
        if not self._output_dir:
            return
        path = os.path.join(self._output_dir, "sem_seg_predictions.json")
        save_results(path, json.dumps(predictions))
        path = os.path.join(self._output_dir, "sem_seg_evaluation.pth")
        save_results(path, lambda file: torch.save(metrics, file))

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict]:
        """Return a dict per class that occurs: "file_name", "category_id", "segmentation" (RLE)."""
        encoded = []
        for label in np.unique(sem_seg).tolist():
            to_id = self._contiguous_id_to_dataset_id
            if to_id is not None and label not in to_id:
                raise ValueError(
                    f"class {label} has no id in the metadata of dataset {self._dataset_name!r} "
                    "(stuff_dataset_id_to_contiguous_id)"
                )
            encoded.append(
                {
                    "file_name": input_file_name,
                    "category_id": label if to_id is None else to_id[label],
                    "segmentation": encode_masks((sem_seg == label)[None])[0],
                }
            )
        return encoded


def _boundary(labels: np.ndarray, share: float = BOUNDARY_SHARE) -> np.ndarray:
    """Return the difference of a label map and its erosion by a fraction of the diagonal.

    As in detectron2, this is computed on the map of all classes at once: near a border, the result
    is the difference of two labels, so the metric is only comparable with detectron2's.
    """
    labels = labels.astype(np.uint8)
    height, width = labels.shape
    steps = max(round(share * float(np.hypot(height, width))), 1)
    # Zeros around the image: its edge is a border too.
    padded = cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return labels - eroded[1:-1, 1:-1]


def _ratio(part, whole) -> np.ndarray:
    """Return part / whole; nan where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """Return the mean over classes that occur, in percent."""
    present = values[~np.isnan(values)]
    return 100 * float(present.mean()) if len(present) else float("nan")
