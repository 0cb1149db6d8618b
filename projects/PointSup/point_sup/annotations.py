"""Labeled points, made from masks."""

import numpy as np

from d2lite.visualization import GenericMask


def sample_point_annotation(
    segmentation: list | dict | np.ndarray,
    bbox_xywh: tuple[float, float, float, float],
    image_size: tuple[int, int],
    num_points: int,
    generator: np.random.Generator,
) -> dict[str, list]:
    """Draw points in a box and label them by the mask (Cheng et al. 2022, sec. 3).

    Args:
        segmentation: polygons, an RLE or an (H, W) mask.
        bbox_xywh: (x, y, width, height) in pixels.
        image_size: (H, W).
        num_points: number of points.
        generator: draws the points.

    Returns:
        "point_coords", `num_points` pairs of x and y, each the index of a pixel; and
        "point_labels", 1 for each point on the object and 0 for the others.
    """
    height, width = image_size
    mask = GenericMask(segmentation, height, width).mask  # (H, W)
    x, y, w, h = bbox_xywh
    coords = generator.random((num_points, 2)) * (w, h) + (x, y)
    # Boxes may end on the far edge of the image or extend beyond it.
    coords = np.floor(coords).clip(0, (width - 1, height - 1)).astype(int)
    labels = mask[coords[:, 1], coords[:, 0]] > 0
    return {"point_coords": coords.tolist(), "point_labels": labels.astype(int).tolist()}
