"""The segments of a panoptic segmentation."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .painter import on_cpu


class PanopticSegments:
    """The segments of a panoptic segmentation, as masks."""

    def __init__(self, panoptic_seg: Any, segments_info: list[dict] | None, metadata: Any = None):
        self._seg = np.asarray(on_cpu(panoptic_seg))
        if segments_info is None:
            segments_info = _segments_from_ids(self._seg, metadata)
        self._infos = {s["id"]: s for s in segments_info}
        ids, areas = np.unique(self._seg, return_counts=True)
        self._ids = ids[np.argsort(-areas, kind="stable")].tolist()

    def non_empty_mask(self) -> np.ndarray:
        """(H, W) bool: pixels that belong to a segment."""
        return np.isin(self._seg, list(self._infos))

    def semantic_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Mask and description of each segment of stuff, large ones first."""
        return self._masks(isthing=False)

    def instance_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Mask and description of each thing, large ones first."""
        return self._masks(isthing=True)

    def _masks(self, isthing: bool) -> Iterator[tuple[np.ndarray, dict]]:
        for index in self._ids:
            info = self._infos.get(index)
            if info is not None and bool(info["isthing"]) == isthing:
                yield (self._seg == index).astype(np.uint8), info


def _segments_from_ids(panoptic_seg: np.ndarray, metadata: Any) -> list[dict]:
    """Segments of a map whose ids are category * label_divisor + number; -1 is nothing."""
    divisor = metadata.label_divisor
    things = set(metadata.thing_dataset_id_to_contiguous_id.values())
    ids = [int(i) for i in np.unique(panoptic_seg) if i != -1]
    return [{"id": i, "category_id": i // divisor, "isthing": i // divisor in things} for i in ids]
