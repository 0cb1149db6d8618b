"""Masks for drawing: of one object in any form, and of the segments of an image."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as mask_util

from d2lite.structures import polygons_to_bitmask
from d2lite.utils.errors import ArgumentError


def on_cpu(value: Any) -> Any:
    """Return tensors, and structures of them, on the CPU without gradients; others unchanged."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return value.to("cpu") if hasattr(value, "to") else value


class GenericMask:
    """Mask of one object, (height, width), converted to polygons, RLE or bitmap when needed."""

    def __init__(self, mask_or_polygons, height: int, width: int):
        """
        Args:
            mask_or_polygons: an RLE dict (compressed or not), a list of flat [x0, y0, x1, ...]
                polygons, or an (H, W) array of 0 and 1.
        Raises:
            ValueError: it has another form or size.
        """
        self.height, self.width = height, width
        self._mask: np.ndarray | None = None
        self._polygons: list[np.ndarray] | None = None
        self._has_holes: bool | None = None
        given = mask_or_polygons
        if isinstance(given, dict):
            if "counts" not in given or "size" not in given:
                raise ArgumentError(
                    f"an RLE mask has the keys counts and size, not {sorted(given)}"
                )
            self._check_size(tuple(given["size"]))
            if isinstance(given["counts"], list):
                given = mask_util.frPyObjects(given, *given["size"])
            self._mask = mask_util.decode(given)
        elif isinstance(given, list):
            self._polygons = [np.asarray(polygon, dtype=float).reshape(-1) for polygon in given]
            self._has_holes = False
        elif isinstance(given, np.ndarray) and given.ndim == 2:
            self._check_size(given.shape)
            self._mask = given.astype(np.uint8)
        else:
            raise ValueError(
                f"cannot make a mask of a {type(given).__name__}; give an RLE dict, a list of "
                "polygons, or an (H, W) array"
            )

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, 0 or 1."""
        if self._mask is None:
            self._mask = self.polygons_to_mask(self._polygons)
        return self._mask

    @property
    def polygons(self) -> list[np.ndarray]:
        """Flat outlines in continuous coordinates, without the holes."""
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self._mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        """Return whether `polygons` cover more than the mask."""
        if self._has_holes is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self._mask)
        return self._has_holes

    def mask_to_polygons(self, mask: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Return the outlines of an (H, W) bitmap, and whether it has holes."""
        contours, hierarchy = cv2.findContours(
            np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        if hierarchy is None:
            return [], False
        parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
        outer = [c for c, parent in zip(contours, parents, strict=True) if parent < 0]
        # OpenCV returns pixel indices; pixel centers are at + 0.5. Two points enclose nothing.
        return [c.reshape(-1) + 0.5 for c in outer if len(c) >= 3], bool((parents >= 0).any())

    def polygons_to_mask(self, polygons: list[np.ndarray]) -> np.ndarray:
        """Return the (H, W) uint8 bitmap of the union of polygons, by COCO's rules."""
        polygons = [p for p in polygons if len(p) >= 6]  # two points enclose nothing
        return polygons_to_bitmask(polygons, self.height, self.width).astype(np.uint8)

    def area(self) -> int:
        """Return the number of pixels of the mask."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """Return the XYXY box around the mask, (4,); zeros if it is empty."""
        x, y, w, h = mask_util.toBbox(mask_util.encode(np.asfortranarray(self.mask)))
        return np.array([x, y, x + w, y + h])

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != (self.height, self.width):
            raise ArgumentError(
                f"a mask has size {tuple(shape)}, but its image is {self.height} x {self.width} "
                "(height x width)"
            )


class PanopticSegments:
    """The segments of a panoptic segmentation with their masks, largest first."""

    def __init__(self, panoptic_seg: Any, segments_info: list[dict] | None, metadata: Any = None):
        """
        Args:
            panoptic_seg: (H, W) segment id of each pixel.
            segments_info: dicts with `id`, `isthing` and `category_id`. None: ids are
                category * `label_divisor` of the metadata + a number, and -1 means no segment.
            metadata: needed only without `segments_info`.
        """
        self._seg = np.asarray(on_cpu(panoptic_seg))
        ids, areas = np.unique(self._seg, return_counts=True)
        if segments_info is None:
            divisor = metadata.label_divisor
            things = set(metadata.thing_dataset_id_to_contiguous_id.values())
            segments_info = [
                {"id": i, "category_id": i // divisor, "isthing": i // divisor in things}
                for i in ids.tolist()
                if i != -1
            ]
        self._infos = {s["id"]: s for s in segments_info}
        self._ids = ids[np.argsort(-areas, kind="stable")].tolist()

    def non_empty_mask(self) -> np.ndarray:
        """Return which pixels belong to a segment, (H, W) bool."""
        return np.isin(self._seg, list(self._infos))

    def semantic_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield the (H, W) uint8 mask and the description of each segment of stuff."""
        return self._masks(isthing=False)

    def instance_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield the (H, W) uint8 mask and the description of each thing."""
        return self._masks(isthing=True)

    def _masks(self, isthing: bool) -> Iterator[tuple[np.ndarray, dict]]:
        for index in self._ids:
            info = self._infos.get(index)
            if info is not None and bool(info["isthing"]) == isthing:
                yield (self._seg == index).astype(np.uint8), info
