"""COCO average precision of boxes, masks and keypoints, and average recall of proposals."""

import contextlib
import io
import json
import logging
import os

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from d2lite.config import CfgNode
from d2lite.data.catalog import file_stem
from d2lite.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_NAMES
from d2lite.evaluation.class_names import distinct_names
from d2lite.evaluation.coco_json import coco_api, load_coco_api
from d2lite.evaluation.detection_evaluation import DetectionEvaluator
from d2lite.evaluation.evaluator import Settings
from d2lite.evaluation.fast_eval_api import COCOeval_opt
from d2lite.evaluation.tables import metrics_table
from d2lite.utils import comm
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)

METRICS = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}
DEFAULT_MAX_DETS = (1, 10, 100)
# Keypoints other than COCO's 17 have no agreed sigma; this is the mean of COCO's.
FALLBACK_OKS_SIGMA = 0.0689


class COCOEvaluator(DetectionEvaluator):
    """Evaluator of COCO AP for boxes, masks and keypoints of any registered dataset.

    For models that return box proposals, it computes their average recall.
    """

    _metrics = METRICS
    _results_file = "coco_instances_results.json"
    _logger = logger

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | list[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: tuple[float, ...] = (),
        allow_cached_coco: bool = True,
    ):
        """
        Args:
            dataset_name: name or URI. The ground truth is its dataset dicts, as in training.
            tasks: any of "bbox", "segm", "keypoints"; None takes those that the predictions have.
            distributed: gather the predictions of all processes; otherwise each evaluates its own.
            output_dir: for `instances_predictions.pth` (all predictions) and
                `coco_instances_results.json` (in COCO's format).
            max_dets_per_image: number of detections that count per image, best first: N for
                [1, 10, N], or a list of three. Default: [1, 10, 100]. Keypoints always use 20.
            use_fast_impl: use the compiled COCOeval, which returns the same metrics.
            kpt_oks_sigmas: one per keypoint. Default: COCO's, for 17 keypoints or by name.
            allow_cached_coco: for compatibility with detectron2. Without effect, since the ground
                truth is not read from a file.
        """
        if isinstance(tasks, CfgNode):  # detectron2's older signature, still in many programs
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
        super().__init__(dataset_name, tasks, distributed, output_dir)
        self._use_fast_impl = use_fast_impl
        limits = max_dets_per_image
        if limits is None or isinstance(limits, int):
            limits = [*DEFAULT_MAX_DETS[:2], DEFAULT_MAX_DETS[2] if limits is None else limits]
        elif len(limits) != 3:
            raise ValueError(f"max_dets_per_image is {limits}; give one number, or three")
        self._max_dets_per_image = list(limits)
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._coco_api = load_coco_api(dataset_name)
        # Without annotations, predictions are only saved.
        self._do_evaluation = "annotations" in self._coco_api.dataset
        # COCO's format has upright boxes only.
        upright = all(len(row["bbox"]) == 4 for row in self._coco_api.anns.values())
        if output_dir and upright and not self._metadata.get("json_file"):
            # The ground truth is also saved for other programs, which find it by `json_file`.
            path = os.path.join(output_dir, f"{file_stem(dataset_name)}_coco_format.json")
            if comm.is_main_process():
                PathManager.mkdirs(output_dir)
                with PathManager.open(path, "w", encoding="utf-8") as f:
                    json.dump(self._coco_api.dataset, f)
            self._metadata.json_file = path

    @classmethod
    def from_settings(cls, dataset_name: str, settings: Settings) -> "COCOEvaluator":
        """See `DatasetEvaluator.from_settings`."""
        return cls(
            dataset_name,
            settings.tasks,
            output_dir=settings.output_dir,
            kpt_oks_sigmas=tuple(settings.oks_sigmas),
            max_dets_per_image=settings.limit(DEFAULT_MAX_DETS[-1]),
        )

    @property
    def _truth(self) -> COCO:
        return self._coco_api

    @property
    def _cocoeval_fn(self) -> type[COCOeval]:
        return COCOeval_opt if self._use_fast_impl else COCOeval

    def _check_task(self, task: str) -> None:
        self._run_cocoeval([], task, None)

    def _class_metrics(self) -> list[str]:
        names = distinct_names(self._metadata.thing_classes)
        return [f"AP-{name}" for name in names] if len(names) > 1 else []

    def _evaluate_task(
        self, results: list[dict], task: str, img_ids: list | None
    ) -> dict[str, float]:
        coco_eval = self._run_cocoeval(results, task, img_ids) if results else None
        names = self._metadata.get("thing_classes")
        return self._derive_coco_results(coco_eval, task, class_names=names)

    def _run_cocoeval(self, results: list[dict], task: str, img_ids: list | None) -> COCOeval:
        return evaluate_predictions_on_coco(
            self._coco_api,
            results,
            task,
            kpt_oks_sigmas=self._oks_sigmas(results) if task == "keypoints" else (),
            cocoeval_fn=self._cocoeval_fn,
            img_ids=img_ids,
            max_dets_per_image=self._max_dets_per_image,
        )

    def _oks_sigmas(self, results: list[dict]) -> np.ndarray:
        """Return one OKS sigma per keypoint.

        Raises:
            ValueError: predictions, ground truth and sigmas have different numbers of keypoints.
        """
        lengths = {len(a["keypoints"]) for a in self._coco_api.anns.values() if "keypoints" in a}
        in_truth = max(lengths, default=0) // 3
        count = len(results[0]["keypoints"]) // 3 if results else in_truth
        given = self._kpt_oks_sigmas or self._metadata.get("keypoint_oks_sigmas", ())
        if len(given) == 0:
            given = self._default_oks_sigmas(count)
        if len(lengths) > 1 or not count == in_truth == len(given):
            found = " or ".join(str(length // 3) for length in sorted(lengths)) or "none"
            raise ValueError(
                f"the model predicts {count} keypoints, dataset {self._metadata.name!r} has "
                f"{found}, and there are {len(given)} OKS sigmas; set "
                "ROI_KEYPOINT_HEAD.NUM_KEYPOINTS and TEST.KEYPOINT_OKS_SIGMAS to match the data"
            )
        return np.array(given)

    def _default_oks_sigmas(self, count: int) -> list[float]:
        """Return COCO's sigmas: by keypoint name, or by position if there are 17."""
        of_coco = COCOeval(iouType="keypoints").params.kpt_oks_sigmas.tolist()
        by_name = dict(zip(COCO_PERSON_KEYPOINT_NAMES, of_coco, strict=True))
        names = self._metadata.get("keypoint_names") or ()
        if count == len(of_coco) and set(names) != set(by_name):
            return of_coco
        unknown = [name for name in names if name not in by_name]
        if unknown or len(names) != count:
            which = f"{len(unknown)} of the {count} (such as {unknown[0]!r})" if unknown else "all"
            self._logger.warning(
                "TEST.KEYPOINT_OKS_SIGMAS is empty, and only COCO's keypoints have sigmas "
                "by default: using %s for %s",
                FALLBACK_OKS_SIGMA,
                which,
            )
        if len(names) != count:
            return [FALLBACK_OKS_SIGMA] * count
        return [by_name.get(name, FALLBACK_OKS_SIGMA) for name in names]

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        """Return the metrics of one task in percent, and log a table of them.

        Args:
            coco_eval: after `summarize`; None if there were no predictions.
            class_names: by class index; if there are several, "AP-<name>" of each is added.
        Returns:
            {metric: percent}; nan for metrics to which no object of the dataset contributes.
        """
        metrics = METRICS[iou_type]
        if coco_eval is None:
            self._logger.warning("No predictions from the model!")
            return dict.fromkeys(metrics, float("nan"))
        results = {
            metric: float(value * 100) if value >= 0 else float("nan")
            for metric, value in zip(metrics, coco_eval.stats, strict=False)
        }
        names = distinct_names(class_names or ()) if len(class_names or ()) > 1 else []
        ids = coco_eval.params.catIds
        to_index = self._metadata.get("thing_dataset_id_to_contiguous_id")
        to_index = to_index or dict(zip(ids, range(len(names)), strict=False))
        name_of = {c: names[i] for c, i in to_index.items() if c in set(ids) and i < len(names)}
        found = per_category_metrics(coco_eval, name_of)
        nothing = dict.fromkeys(metrics, float("nan"))  # for a class without a category
        by_class = {name: found.get(name, nothing) for name in names}
        table = metrics_table(results, by_class, iou_type)
        self._logger.info("Evaluation results for %s: \n%s", iou_type, table)
        if not np.isfinite(list(results.values())).all():
            self._logger.info("Metrics to which no object contributes are nan.")
        results.update({f"AP-{name}": values["AP"] for name, values in by_class.items()})
        return results


def evaluate_predictions_on_coco(
    coco_gt: COCO,
    coco_results: list[dict],
    iou_type: str,
    kpt_oks_sigmas: np.ndarray | tuple = (),
    cocoeval_fn: type[COCOeval] = COCOeval_opt,
    img_ids: list[int] | None = None,
    max_dets_per_image: list[int] | None = None,
) -> COCOeval:
    """Run COCOeval on results of one task.

    Args:
        coco_results: in COCO's format.
        iou_type: "bbox", "segm" or "keypoints".
        max_dets_per_image: three limits, by default 1, 10, 100.
    Returns:
        The evaluation after `summarize`.
    """
    # loadRes modifies the results, and computes areas from the boxes if there are any. For masks,
    # the areas must be those of the masks.
    drop = "bbox" if iou_type == "segm" else None
    kept = [{k: v for k, v in result.items() if k != drop} for result in coco_results]
    unknown = {result["image_id"] for result in kept} - coco_gt.imgs.keys()
    if unknown:
        raise ValueError(
            f"there are predictions for image_id {min(map(str, unknown))}, which the dataset "
            "does not have"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        found = coco_gt.loadRes(kept) if kept else coco_api({**coco_gt.dataset, "annotations": []})
        coco_eval = cocoeval_fn(coco_gt, found, iou_type)
        if iou_type == "keypoints" and len(kpt_oks_sigmas):
            coco_eval.params.kpt_oks_sigmas = np.array(kpt_oks_sigmas)
        if iou_type != "keypoints":
            coco_eval.params.maxDets = list(max_dets_per_image or DEFAULT_MAX_DETS)
        if img_ids is not None:
            coco_eval.params.imgIds = img_ids
        coco_eval.evaluate()
        coco_eval.accumulate()
        if iou_type == "keypoints":
            coco_eval.summarize()
        else:
            coco_eval.stats = summarize_boxes(coco_eval)
    return coco_eval


def summarize_boxes(coco_eval: COCOeval) -> np.ndarray:
    """Return COCO's 12 metrics in their usual order, for any three limits of detections per image.

    pycocotools' `summarize` hard-codes the limit 100 and returns -1 for others.
    """
    limits = range(len(coco_eval.params.maxDets))
    last = limits[-1]
    stats = [_mean_precision(coco_eval, limit=last)]
    stats += [_mean_precision(coco_eval, iou=iou, limit=last) for iou in (0.5, 0.75)]
    stats += [_mean_precision(coco_eval, area=area, limit=last) for area in (1, 2, 3)]
    stats += [_mean_recall(coco_eval, limit=limit) for limit in limits]
    stats += [_mean_recall(coco_eval, area=area, limit=last) for area in (1, 2, 3)]
    return np.array(stats)


def per_category_metrics(coco_eval: COCOeval, names: dict[int, str]) -> dict[str, dict[str, float]]:
    """Return {category name: {metric: percent or nan}} with the metrics of the task.

    Args:
        names: category id -> name, for the categories to report.
    """
    areas = {"AP" + label[0]: a for a, label in enumerate(coco_eval.params.areaRngLbl) if a}
    index = {category: k for k, category in enumerate(coco_eval.params.catIds)}
    table = {}
    for category, name in names.items():
        select = {"category": index[category], "limit": -1}
        values = {
            "AP": _mean_precision(coco_eval, **select),
            "AP50": _mean_precision(coco_eval, iou=0.5, **select),
            "AP75": _mean_precision(coco_eval, iou=0.75, **select),
            **{m: _mean_precision(coco_eval, area=a, **select) for m, a in areas.items()},
        }
        table[name] = {m: float(v * 100) if v >= 0 else float("nan") for m, v in values.items()}
    return table


def _mean_precision(
    coco_eval: COCOeval,
    iou: float | None = None,
    area: int = 0,
    limit: int = -1,
    category: int | None = None,
) -> float:
    """Return the mean over IoU thresholds, recalls and categories with ground truth; -1 for
    none."""
    precision = coco_eval.eval["precision"]  # (T, R, K, A, M)
    if iou is not None:
        precision = precision[np.where(iou == coco_eval.params.iouThrs)[0]]
    if category is not None:
        precision = precision[:, :, [category]]
    return _mean_of_present(precision[:, :, :, [area], [limit]])


def _mean_recall(coco_eval: COCOeval, area: int = 0, limit: int = -1) -> float:
    return _mean_of_present(coco_eval.eval["recall"][:, :, [area], [limit]])  # of (T, K, A, M)


def _mean_of_present(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(np.mean(present)) if present.size else -1.0
