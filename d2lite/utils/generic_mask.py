"""A mask that may come as polygons, RLE or bitmap, and can be had as either."""

import cv2
import numpy as np
from pycocotools import mask as mask_util

from d2lite.utils.errors import ArgumentError


class GenericMask:
    """One object's mask of (height, width), converted between its forms when asked for."""

    def __init__(self, mask_or_polygons, height: int, width: int):
        """
        Args:
            mask_or_polygons: an RLE dict (compressed or not), a list of flat [x0, y0, x1, ...]
                polygons, or an (H, W) array of 0 and 1.
        Raises:
            ValueError: it has another form, or another size.
        """
        self.height, self.width = height, width
        self._mask: np.ndarray | None = None
        self._polygons: list[np.ndarray] | None = None
        self._has_holes: bool | None = None
        given = mask_or_polygons
        if isinstance(given, dict):
            self._mask = self._decoded(given)
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
        """Whether `polygons` cover more than the mask does."""
        if self._has_holes is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self._mask)
        return self._has_holes

    def mask_to_polygons(self, mask: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Outlines of an (H, W) bitmap, and whether it has holes."""
        contours, hierarchy = cv2.findContours(
            np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        if hierarchy is None:
            return [], False
        parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
        outer = [c for c, parent in zip(contours, parents, strict=True) if parent < 0]
        # OpenCV numbers pixels, whose middles are at + 0.5. Two points enclose nothing.
        return [c.reshape(-1) + 0.5 for c in outer if len(c) >= 3], bool((parents >= 0).any())

    def polygons_to_mask(self, polygons: list[np.ndarray]) -> np.ndarray:
        """(H, W) uint8 bitmap of the union of polygons, by COCO's rules."""
        polygons = [list(p) for p in polygons if len(p) >= 6]
        if not polygons:
            return np.zeros((self.height, self.width), np.uint8)
        rles = mask_util.frPyObjects(polygons, self.height, self.width)
        return mask_util.decode(mask_util.merge(rles))

    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """(4,) XYXY box around the mask; zeros when it is empty."""
        x, y, w, h = mask_util.toBbox(mask_util.encode(np.asfortranarray(self.mask)))
        return np.array([x, y, x + w, y + h])

    def _decoded(self, rle: dict) -> np.ndarray:
        if "counts" not in rle or "size" not in rle:
            raise ArgumentError(f"an RLE mask has the keys counts and size, not {sorted(rle)}")
        self._check_size(tuple(rle["size"]))
        if isinstance(rle["counts"], list):
            rle = mask_util.frPyObjects(rle, *rle["size"])
        return mask_util.decode(rle)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != (self.height, self.width):
            raise ArgumentError(
                f"a mask has size {tuple(shape)}, but its image is {self.height} x {self.width} "
                "(height x width)"
            )
