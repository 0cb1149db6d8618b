"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", 2019)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

VOID = 0  # segment id of pixels without a label


@dataclass
class CategoryCounts:
    """Counts of matched and unmatched segments of one category in all images."""

    matched: int = 0
    iou: float = 0.0  # summed over matched segments
    only_predicted: int = 0
    only_true: int = 0

    def quality(self) -> tuple[float, float, float] | None:
        """Return (PQ, SQ, RQ) in [0, 1]; None for a category that does not occur."""
        weight = self.matched + 0.5 * self.only_predicted + 0.5 * self.only_true
        if weight == 0:
            return None
        segmentation = self.iou / self.matched if self.matched else 0.0
        return self.iou / weight, segmentation, self.matched / weight


class PanopticQuality:
    """Sums of matched and unmatched segments over images."""

    def __init__(self, categories: Iterable[int]):
        self.counts = {category: CategoryCounts() for category in categories}

    def add(
        self,
        true_ids: np.ndarray,
        true_segments: list[dict[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: list[dict[str, Any]],
        image: str = "image",
    ) -> None:
        """Match the segments of one image: pairs with IoU above 0.5, which are unique.

        Args:
            true_ids, pred_ids: (H, W) segment id of each pixel, 0 for none.
            true_segments, pred_segments: dicts with "id" and "category_id"; true ones may have
                "iscrowd", and such segments count neither as missed nor as false positives.
            image: its name, for messages.
        Raises:
            ValueError: sizes differ, or the predicted ids and segments do not agree.
        """
        if true_ids.shape != pred_ids.shape:
            raise ValueError(
                f"{image}: the prediction has size {pred_ids.shape}, expected {true_ids.shape}"
            )
        true = {s["id"]: s for s in true_segments}
        pred = {s["id"]: s for s in pred_segments}
        overlap = _overlaps(true_ids, pred_ids)
        true_area, pred_area = _areas(overlap, 0), _areas(overlap, 1)
        self._check(image, pred, pred_area)
        matched_true, matched_pred = set(), set()
        for (t, p), inter in overlap.items():
            if t not in true or p not in pred or true[t].get("iscrowd", 0):
                continue
            if true[t]["category_id"] != pred[p]["category_id"]:
                continue
            union = true_area[t] + pred_area[p] - inter - overlap.get((VOID, p), 0)
            if inter / union > 0.5:
                count = self.counts[true[t]["category_id"]]
                count.matched += 1
                count.iou += inter / union
                matched_true.add(t)
                matched_pred.add(p)
        crowds = {s["category_id"]: i for i, s in true.items() if s.get("iscrowd", 0)}
        for index, segment in true.items():
            if index not in matched_true and not segment.get("iscrowd", 0):
                self.counts[segment["category_id"]].only_true += 1
        for index, segment in pred.items():
            if index in matched_pred:
                continue
            # Pixels without a label, or of a crowd of this category, are ignored.
            unknown = overlap.get((VOID, index), 0)
            if segment["category_id"] in crowds:
                unknown += overlap.get((crowds[segment["category_id"]], index), 0)
            if unknown / pred_area[index] <= 0.5:
                self.counts[segment["category_id"]].only_predicted += 1

    def _check(self, image: str, pred: dict[int, dict], area: dict[int, int]) -> None:
        for index in area.keys() - {VOID}:
            if index not in pred:
                raise ValueError(f"{image}: segment {index} has pixels, but is not in the list")
        for index, segment in pred.items():
            if index not in area:
                raise ValueError(f"{image}: segment {index} is in the list, but has no pixel")
            if segment["category_id"] not in self.counts:
                raise ValueError(
                    f"{image}: segment {index} has category {segment['category_id']}, which the "
                    "dataset does not have"
                )

    def average(self, categories: Iterable[int]) -> dict[str, float]:
        """Return the means over those of `categories` that occur.

        Returns:
            "pq", "sq" and "rq" in [0, 1], and "n", the number of categories that occur; all are 0
            if none does.
        """
        found = [q for c in categories if (q := self.counts[c].quality()) is not None]
        pq, sq, rq = np.mean(found, axis=0).tolist() if found else (0.0, 0.0, 0.0)
        return {"pq": pq, "sq": sq, "rq": rq, "n": len(found)}


def _overlaps(true_ids: np.ndarray, pred_ids: np.ndarray) -> dict[tuple[int, int], int]:
    """Return the number of shared pixels of each overlapping (true, predicted) pair of segments."""
    pairs = (true_ids.astype(np.int64) << 32) | pred_ids.astype(np.int64)
    values, counts = np.unique(pairs, return_counts=True)
    keys = zip((values >> 32).tolist(), (values & 0xFFFFFFFF).tolist(), strict=True)
    return dict(zip(keys, counts.tolist(), strict=True))


def _areas(overlap: dict[tuple[int, int], int], side: int) -> dict[int, int]:
    areas: dict[int, int] = {}
    for pair, count in overlap.items():
        areas[pair[side]] = areas.get(pair[side], 0) + count
    return areas
