"""Outlines of objects: boxes around polygons, polygons around masks, several polygons as one."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

Polygon = list[float]  # x0, y0, x1, y1, ...


def box_of_polygons(polygons: Sequence[Sequence[float]]) -> list[float]:
    """Return [x0, y0, x1, y1] around polygons [x0, y0, x1, y1, ...]."""
    points = np.concatenate([np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def polygons_of(segmentation: Any) -> tuple[list[Polygon], bool]:
    """Return the polygons of a dataset dict's "segmentation", and whether they are exact.

    Polygons of a mask follow its pixels; holes and parts one pixel wide are lost.
    """
    if isinstance(segmentation, (list, tuple)):
        return [np.asarray(p, dtype=np.float64).ravel().tolist() for p in segmentation], True
    mask = mask_util.decode(segmentation) if isinstance(segmentation, dict) else segmentation
    return mask_polygons(mask), False


def mask_polygons(mask: np.ndarray, corner: tuple[float, float] = (0.0, 0.0)) -> list[Polygon]:
    """Return the outer outlines of an (H, W) mask, in continuous coordinates.

    OpenCV's outlines run through the middles of the outermost pixels. The mask is doubled, which
    leaves a quarter of a pixel between an outline and the edge of its pixels.

    Args:
        corner: (x, y) at which the mask starts, if it was cut out of an image.
    """
    double = np.ascontiguousarray(mask, dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    outlines, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [(outline.reshape(-1, 2) + 0.5) / 2 + corner for outline in outlines]
    return [polygon.ravel().tolist() for polygon in polygons if len(polygon) >= 3]


def mask_to_rle(mask: np.ndarray) -> dict:
    """Return the compressed RLE of an (H, W) mask."""
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def join_polygons(polygons: Sequence[Sequence[float]]) -> Polygon:
    """Return one polygon for several, joined at the nearest points by bridges of zero width."""
    joined, *rest = (np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons)
    # All in the same orientation, or their areas would cancel.
    rest = [p if _signed_area(p) * _signed_area(joined) >= 0 else p[::-1] for p in rest]
    while rest:
        squared = [((joined[:, None] - p[None]) ** 2).sum(axis=2) for p in rest]
        nearest = int(np.argmin([d.min() for d in squared]))
        at, other = np.unravel_index(squared[nearest].argmin(), squared[nearest].shape)
        part = rest.pop(nearest)
        loop = np.concatenate([part[other:], part[: other + 1]])
        joined = np.concatenate([joined[: at + 1], loop, joined[at:]])
    return joined.ravel().tolist()


def _signed_area(points: np.ndarray) -> float:
    """Return the area of (P, 2) points, whose sign is the orientation (shoelace formula)."""
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def ellipse_polygon(
    center: tuple[float, float], radii: tuple[float, float], radians: float = 0.0
) -> Polygon:
    """Return a polygon of 64 points of an ellipse, turned by an angle (clockwise in an image)."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    cos, sin = np.cos(radians), np.sin(radians)
    points = np.stack([center[0] + x * cos - y * sin, center[1] + x * sin + y * cos], axis=1)
    return points.ravel().tolist()
