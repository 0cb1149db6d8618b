"""Private functions of detectron2's evaluators."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from d2lite.evaluation.coco_evaluation import evaluate_predictions_on_coco, summarize_boxes
from d2lite.evaluation.fast_eval_api import COCOeval_opt
from d2lite.evaluation.lvis_evaluation import METRICS, evaluate_predictions_on_lvis
from d2lite.evaluation.proposal_recall import box_proposal_recall
from d2lite.evaluation.tables import grid


def _evaluate_predictions_on_coco(
    coco_gt: Any,
    coco_results: list[dict],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: type[COCOeval] | bool = COCOeval_opt,
    img_ids: list[int] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
    *,
    use_fast_impl: bool = True,
) -> COCOeval:
    """Evaluate results of one task; see `evaluate_predictions_on_coco`.

    Args:
        cocoeval_fn: the evaluation to use. In release 0.6, `use_fast_impl` was at this position.
        use_fast_impl: whether to use the fast evaluation.
    Raises:
        AssertionError: there is no result.
    """
    if isinstance(cocoeval_fn, bool):
        use_fast_impl, cocoeval_fn = cocoeval_fn, COCOeval_opt
    if not use_fast_impl:
        cocoeval_fn = COCOeval
    assert len(coco_results) > 0, "there are no results to evaluate"
    return evaluate_predictions_on_coco(
        coco_gt,
        coco_results,
        iou_type,
        kpt_oks_sigmas=() if kpt_oks_sigmas is None else np.asarray(kpt_oks_sigmas),
        cocoeval_fn=cocoeval_fn,
        img_ids=img_ids,
        max_dets_per_image=max_dets_per_image,
    )


def _evaluate_predictions_on_lvis(
    lvis_gt: Any,
    lvis_results: list[dict],
    iou_type: str,
    max_dets_per_image: int | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return LVIS's metrics of one task in percent, or nan without results.

    Args:
        lvis_gt: an `lvis.LVIS`.
        class_names: not used, as in detectron2.
    """
    if not lvis_results:
        return dict.fromkeys(METRICS, float("nan"))
    return evaluate_predictions_on_lvis(lvis_gt, lvis_results, iou_type, max_dets_per_image)


def _evaluate_box_proposals(
    dataset_predictions: list[dict],
    coco_api: Any,
    thresholds: Any = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the recall of proposals; see `box_proposal_recall`. `coco_api`: pycocotools' COCO."""
    return box_proposal_recall(
        dataset_predictions,
        lambda image_id: coco_api.loadAnns(coco_api.getAnnIds(imgIds=[image_id])),
        thresholds,
        area,
        limit,
    )


def _evaluate_box_proposals_lvis(
    dataset_predictions: list[dict],
    lvis_api: Any,
    thresholds: Any = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the recall of proposals on LVIS; see `box_proposal_recall`."""
    return box_proposal_recall(
        dataset_predictions,
        lambda image_id: lvis_api.load_anns(lvis_api.get_ann_ids(img_ids=[image_id])),
        thresholds,
        area,
        limit,
    )


def _print_panoptic_results(pq_res: dict[str, dict[str, float]]) -> None:
    """Log a table of panopticapi's results."""
    rows = [
        [name, *(f"{pq_res[name][key] * 100:.3f}" for key in ("pq", "sq", "rq")), pq_res[name]["n"]]
        for name in ("All", "Things", "Stuff")
    ]
    table = grid(["", "PQ", "SQ", "RQ", "#categories"], [[str(x) for x in row] for row in rows])
    logging.getLogger("d2lite.evaluation.panoptic_evaluation").info(
        "Panoptic Evaluation Results:\n%s", table
    )


class COCOevalMaxDets(COCOeval):
    """COCOeval with a summary that allows limits other than 100 detections per image."""

    def summarize(self) -> None:
        """Set `stats`: COCO's 12 metrics, or 10 for keypoints."""
        if not self.eval:
            raise RuntimeError("call accumulate() before COCOevalMaxDets.summarize()")
        if self.params.iouType == "keypoints":
            super().summarize()
        else:
            self.stats = summarize_boxes(self)
