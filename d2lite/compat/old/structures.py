"""Functions of detectron2 on boxes and masks that nothing else here calls."""

import numpy as np
import torch
from torch import Tensor

from d2lite.structures.boxes import Boxes, _ratio
from d2lite.structures.masks import _rasterize_in_boxes


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return the (N,) IoU of the i-th box of one set with the i-th of the other.

    Raises:
        AssertionError: the numbers of boxes differ.
    """
    assert len(boxes1) == len(boxes2), (
        f"expected equal numbers of boxes, got {len(boxes1)} and {len(boxes2)}"
    )
    first, second = boxes1.tensor, boxes2.tensor
    low = torch.maximum(first[:, :2], second[:, :2])
    high = torch.minimum(first[:, 2:], second[:, 2:])
    width, height = (high - low).clamp(min=0).unbind(dim=1)
    shared = width * height
    return _ratio(shared, boxes1.area() + boxes2.area() - shared)


def rasterize_polygons_within_box(
    polygons: list[np.ndarray], box: np.ndarray, mask_size: int
) -> Tensor:
    """Rasterize the part of one object inside `box`, stretched to a square bitmap.

    Args:
        polygons: as in `polygons_to_bitmask`.
        box: (4,) XYXY.

    Returns:
        (mask_size, mask_size) bool tensor on the CPU.
    """
    boxes = np.asarray(box, dtype=np.float32).reshape(1, 4)
    return torch.from_numpy(_rasterize_in_boxes([polygons], boxes, mask_size)[0])
