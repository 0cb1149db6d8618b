"""Positions of predictions, coding of boxes, and assignment of objects."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# As in Box2BoxTransform; it keeps exp() finite.
MAX_LOG_RATIO = math.log(1000.0 / 16)


class Grid(NamedTuple):
    """Positions of the R predictions of an image, ordered by level, row, column and anchor."""

    cells: Tensor
    """(R, 2) column and row of the cell of each prediction"""
    strides: Tensor
    """(R, 1) pixels per cell"""
    anchors: Tensor
    """(R, 2) width and height in pixels"""


def make_grid(sizes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Tensor) -> Grid:
    """Return the positions of the predictions of L levels.

    Args:
        sizes: (rows, columns) of each level.
        strides: per level, in pixels.
        anchors: (L, A, 2) widths and heights in pixels.
    """
    num_anchors = anchors.shape[1]
    cells, all_strides, all_anchors = [], [], []
    for (rows, columns), stride, anchors_per_level in zip(sizes, strides, anchors, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        in_level = torch.stack([x, y], dim=2).view(-1, 2)  # (rows * columns, 2)
        cells.append(in_level.repeat_interleave(num_anchors, dim=0))
        all_strides.append(torch.full((len(cells[-1]), 1), float(stride)))
        all_anchors.append(anchors_per_level.repeat(len(in_level), 1))
    device = anchors.device
    return Grid(
        torch.cat(cells).float().to(device),
        torch.cat(all_strides).to(device),
        torch.cat(all_anchors),
    )


def decode(deltas: Tensor, grid: Grid) -> Tensor:
    """Decode (..., R, 4) predicted values to XYXY boxes (YOLOv3, sec. 2.1).

    The sigmoid of the first two values is the position of the center within its cell. The others
    are the logarithms of width and height relative to the anchor.
    """
    centers = (deltas[..., :2].sigmoid() + grid.cells) * grid.strides
    sizes = deltas[..., 2:].clamp(max=MAX_LOG_RATIO).exp() * grid.anchors
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=-1)


def encode(boxes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the targets of predictions for (R, 4) XYXY boxes, the inverse of `decode`.

    Returns:
        (R, 2) offsets of the centers within their cells in [0, 1], the targets of the sigmoid; and
        (R, 2) logarithms of the sizes relative to the anchors.
    """
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = (centers / grid.strides - grid.cells).clamp(0, 1)
    return offsets, (sizes / grid.anchors).log()


def iou_of_sizes(a: Tensor, b: Tensor) -> Tensor:
    """Return the (M, A) IoU of boxes of (M, 2) and (A, 2) widths and heights with equal centers."""
    overlap = torch.minimum(a[:, None], b[None]).prod(dim=2)
    return overlap / (a.prod(dim=1)[:, None] + b.prod(dim=1)[None] - overlap)


def assign_objects(
    gt_boxes: Tensor, sizes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Tensor
) -> Tensor:
    """Return the object assigned to each prediction.

    Among the anchors of all levels, an object gets the one whose shape overlaps it most, in the
    cell of its center. If several objects get the same prediction, the last one counts, as in
    Darknet.

    Args:
        gt_boxes: (M, 4) XYXY.
        sizes, strides, anchors: see `make_grid`.
    Returns:
        (R,) int64: the index of the object, or -1.
    """
    num_anchors = anchors.shape[1]
    best = iou_of_sizes(gt_boxes[:, 2:] - gt_boxes[:, :2], anchors.flatten(0, 1)).argmax(dim=1)
    level, anchor = best // num_anchors, best % num_anchors
    limits = gt_boxes.new_tensor(sizes, dtype=torch.int64)  # (L, 2) of rows and columns
    counts = limits.prod(dim=1) * num_anchors
    centers = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    cells = (centers / centers.new_tensor(strides)[level, None]).long()
    # A center on the right or lower border belongs to the last cell.
    column, row = torch.minimum(cells, limits[level].flip(1) - 1).unbind(dim=1)
    before = (counts.cumsum(0) - counts)[level]
    index = before + (row * limits[level, 1] + column) * num_anchors + anchor
    owner = torch.full((int(counts.sum()),), -1, device=gt_boxes.device)
    objects = torch.arange(len(gt_boxes), device=gt_boxes.device)
    # The maximum, since the order of writes is random on a GPU.
    return owner.scatter_reduce_(0, index, objects, "amax")
