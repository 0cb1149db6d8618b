"""Boxes of four numbers, and rotated ones of five, by one name each.

So that what handles boxes need not be written once for each kind.
"""

from torch import Tensor

from d2lite.layers import batched_nms, batched_nms_rotated
from d2lite.structures import Boxes, RotatedBoxes

ROTATED_DIM = 5


def as_boxes(tensor: Tensor) -> Boxes:
    """(N, 4) as Boxes, (N, 5) as RotatedBoxes."""
    return RotatedBoxes(tensor) if tensor.shape[1] == ROTATED_DIM else Boxes(tensor)


def nms_within(groups: Tensor, boxes: Boxes, scores: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes remain when those of one group may overlap by `iou_threshold` at most.

    Args:
        groups: (N,) int64, such as classes or levels; boxes of different ones never compete.
        boxes: N of either kind.
        scores: (N,); of two boxes the better scored remains.
        iou_threshold: IoU above which the worse of two boxes is dropped.
    Returns:
        (M,) int64 indices of the boxes that remain, best first.
    """
    nms = batched_nms_rotated if isinstance(boxes, RotatedBoxes) else batched_nms
    return nms(boxes.tensor, scores, groups, iou_threshold)
