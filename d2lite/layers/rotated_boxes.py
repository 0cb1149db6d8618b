"""Exact IoU of rotated boxes.

In the frame of the second box, that box is upright, and the intersection's area is an integral
over x of the first box's extent in y, clamped to the second: one closed-form term per edge of
the first box. No polygon is built, so touching, equal and empty boxes are not special cases.
"""

import math

import torch
from torch import Tensor

PAIRS_PER_CHUNK = 1 << 18  # bounds the memory for float64 intermediates to about 100 MB
TINY_AREA = 1e-14  # a box below this area overlaps nothing


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the IoU of every box of one set with every box of another.

    Args:
        boxes1: (N, 5) of (center x, center y, width, height, angle in degrees counter-clockwise).
        boxes2: (M, 5).
    Returns:
        (N, M) float32, in [0, 1].
    """
    iou = boxes1.new_zeros(len(boxes1), len(boxes2), dtype=torch.float32)
    rows_per_chunk = max(1, 16 * PAIRS_PER_CHUNK // max(len(boxes2), 1))
    for start in range(0, len(boxes1), rows_per_chunk):
        chunk = boxes1[start : start + rows_per_chunk]
        row, column = bounding_boxes_meet(chunk, boxes2).nonzero(as_tuple=True)
        iou[start + row, column] = paired_iou_rotated(chunk, boxes2, row, column)
    return iou


def paired_iou_rotated(boxes1: Tensor, boxes2: Tensor, index1: Tensor, index2: Tensor) -> Tensor:
    """Return the IoU of boxes1[index1[k]] with boxes2[index2[k]], as (K,) float32."""
    ious = []
    for i, j in zip(index1.split(PAIRS_PER_CHUNK), index2.split(PAIRS_PER_CHUNK), strict=True):
        a, b = boxes1[i].double(), boxes2[j].double()
        area_a, area_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
        intersection = intersection_area(a, b)
        iou = intersection / (area_a + area_b - intersection)
        iou = torch.where((area_a < TINY_AREA) | (area_b < TINY_AREA), 0.0, iou)
        ious.append(iou.clamp(0, 1).float())
    return torch.cat(ious) if ious else boxes1.new_zeros(0, dtype=torch.float32)


def bounding_boxes_meet(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return (N, M) bool: whether the upright boxes around two rotated ones overlap."""
    reach1, reach2 = half_extent(boxes1), half_extent(boxes2)
    near_x = (boxes1[:, None, 0] - boxes2[:, 0]).abs() <= reach1[:, None, 0] + reach2[:, 0]
    near_y = (boxes1[:, None, 1] - boxes2[:, 1]).abs() <= reach1[:, None, 1] + reach2[:, 1]
    return near_x & near_y


def half_extent(boxes: Tensor) -> Tensor:
    """Return the (N, 2) half width and height of the upright boxes around (N, 5) rotated ones."""
    angle = torch.deg2rad(boxes[:, 4])
    cos, sin = angle.cos().abs(), angle.sin().abs()
    width, height = boxes[:, 2], boxes[:, 3]
    return torch.stack([width * cos + height * sin, width * sin + height * cos], dim=1) / 2


def intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Return the (K,) areas that pairs of rotated boxes share; both are (K, 5) float64."""
    x, y = corners_in_frame_of(a, b)  # (K, 4) each, in order around the box
    half_w, half_h = b[:, 2:3] / 2, b[:, 3:4] / 2
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    # The part of each edge within the box's width, as the range [enter, leave] of the position
    # t in [0, 1] along the edge. An upright edge spans no x: any range gives 0.
    safe_dx = torch.where(dx == 0, 1.0, dx)
    enter = ((half_w.copysign(-dx) - x) / safe_dx).clamp(0, 1)
    leave = ((half_w.copysign(dx) - x) / safe_dx).clamp(0, 1)
    # Within it, clamped y is linear between the positions where the edge crosses top and bottom.
    safe_dy = torch.where(dy == 0, 1.0, dy)
    first = torch.clamp((half_h.copysign(-dy) - y) / safe_dy, enter, leave)
    second = torch.clamp((half_h.copysign(dy) - y) / safe_dy, enter, leave)
    stops = torch.stack([enter, first, second, leave])  # (4, K, 4)
    heights = torch.clamp(y + stops * dy, -half_h, half_h)
    integral = (stops.diff(dim=0) * (heights[1:] + heights[:-1]) / 2).sum(dim=0) * dx
    return integral.sum(dim=1).abs()


def corners_in_frame_of(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of each `a` in the frame where its `b` is upright, centered at the origin.

    Args:
        a, b: (K, 5) boxes.
    Returns:
        x and y, (K, 4) each.
    """
    frame, turn = b[:, 4] * (math.pi / 180), (a[:, 4] - b[:, 4]) * (math.pi / 180)
    offset_x, offset_y = a[:, 0] - b[:, 0], a[:, 1] - b[:, 1]
    # Angles are counter-clockwise although y points down.
    center_x = offset_x * frame.cos() - offset_y * frame.sin()
    center_y = offset_x * frame.sin() + offset_y * frame.cos()
    side_x = a.new_tensor([-0.5, 0.5, 0.5, -0.5]) * a[:, 2:3]
    side_y = a.new_tensor([-0.5, -0.5, 0.5, 0.5]) * a[:, 3:4]
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    x = center_x[:, None] + side_x * cos + side_y * sin
    y = center_y[:, None] - side_x * sin + side_y * cos
    return x, y
