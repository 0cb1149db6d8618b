"""Detection in tiles of a large image: positions of the tiles, and merging of their detections.

Small objects vanish when a large image is resized to the input size of a network; in tiles they
keep their size (slicing aided inference, arXiv 2202.06934).
"""

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as mask_util
from torch import Tensor

from d2lite.structures import Boxes, Instances, pairwise_ioa, pairwise_iou

Window = tuple[int, int, int, int]
"""(x0, y0, x1, y1) of a part of an image, in pixels."""

_EDGE = 2.0  # pixels; a box this close to the edge of its tile may be cut off
_PART = 0.7  # a cut box belongs to the same object as a box that covers this fraction of it


def tile_windows(height: int, width: int, size: int, overlap: float) -> list[Window]:
    """Cover an image with tiles of one size, row by row, spread evenly.

    Args:
        size: side of the square tiles in pixels; a smaller image gets smaller ones.
        overlap: minimum overlap of neighboring tiles, as a fraction of the side, in [0, 1).
    """
    if size < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"tiles of {size} pixels with an overlap of {overlap}; expected a size of 1 or more "
            "and an overlap from 0 to below 1"
        )
    rows = _starts(height, size, overlap)
    columns = _starts(width, size, overlap)
    return [
        (x, y, min(x + size, width), min(y + size, height)) for y in rows for x in columns
    ]  # fmt: skip


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    # As few tiles as possible that start at most `step` apart. The tolerance absorbs rounding.
    step = max(size * (1 - overlap), 1)
    count = int(np.ceil((length - size) / step - 1e-9)) + 1
    return np.linspace(0, length - size, count).round().astype(int).tolist()


def merge_windows(
    found: Sequence[Instances],
    windows: Sequence[Window],
    image_size: tuple[int, int],
    iou_threshold: float = 0.5,
) -> Instances:
    """Merge the detections of windows into those of the image.

    Within each class, a detection is dropped if its IoU with a better one is above `iou_threshold`.
    A detection cut off by an edge of its window is also dropped if most of its box is inside a
    better one. Complete detections are better than cut ones, then the score decides.

    Args:
        found: for each window, detections in its pixels, with `pred_boxes`, `scores`,
            `pred_classes`, and optionally `pred_masks` (N, h, w) and `pred_keypoints` (N, K, 3).
        windows: positions of the windows.
        image_size: (H, W) of the image.
        iou_threshold: of the boxes' IoU.

    Returns:
        Instances on the CPU by descending score; `pred_masks` is a list of RLE dicts of the whole
        image, because full masks of large images don't fit into memory.
    """
    parts = [
        _in_image(instances.to("cpu"), window, image_size)
        for instances, window in zip(found, windows, strict=True)
    ]
    merged = Instances.cat(parts)
    cut = torch.cat(
        [
            is_cut(part.pred_boxes.tensor, window, image_size)
            for part, window in zip(parts, windows, strict=True)
        ]
    )
    kept = []
    for kind in merged.pred_classes.unique().tolist():
        members = (merged.pred_classes == kind).nonzero()[:, 0]
        kept.append(members[_keep(merged[members], cut[members], iou_threshold)])
    chosen = torch.cat([torch.zeros(0, dtype=torch.int64), *kept])
    return merged[chosen[merged.scores[chosen].sort(descending=True, stable=True).indices]]


def _in_image(instances: Instances, window: Window, image_size: tuple[int, int]) -> Instances:
    x0, y0, _, _ = window
    moved = Instances(image_size)
    for name, value in instances.get_fields().items():
        if name == "pred_boxes":
            moved.pred_boxes = Boxes(value.tensor + value.tensor.new_tensor([x0, y0, x0, y0]))
        elif name == "pred_keypoints":
            moved.pred_keypoints = value + value.new_tensor([x0, y0, 0.0])
        elif name == "pred_masks":
            masks = torch.as_tensor(value).numpy()
            moved.pred_masks = [rle_in_image(mask, x0, y0, image_size) for mask in masks]
        elif name in ("scores", "pred_classes"):
            moved.set(name, value)
    return moved


def is_cut(boxes: Tensor, window: Window, image_size: tuple[int, int]) -> Tensor:
    """Return whether each box ends at an edge of its window that is inside the image.

    Args:
        boxes: (N, 4), in the image, all found in `window`.

    Returns:
        (N,) bool.
    """
    height, width = image_size
    x0, y0, x1, y1 = window
    limits = ((0, x0, x0 > 0), (1, y0, y0 > 0), (2, x1, x1 < width), (3, y1, y1 < height))
    cut = torch.zeros(len(boxes), dtype=torch.bool)
    for side, edge, is_inside in limits:
        if is_inside:
            cut |= (boxes[:, side] - edge).abs() <= _EDGE
    return cut


def _keep(instances: Instances, cut: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the detections of one class to keep."""
    by_score = instances.scores.sort(descending=True, stable=True).indices
    # Complete detections first, then by score; each is compared only with better ones.
    order = by_score[cut[by_score].to(torch.uint8).sort(stable=True).indices]
    boxes = instances.pred_boxes[order]
    suppresses = pairwise_iou(boxes, boxes) > iou_threshold  # [i, j]: j is dropped if i is kept
    suppresses |= (pairwise_ioa(boxes, boxes) > _PART) & cut[order][None, :]
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not dropped[i]:
            dropped[i + 1 :] |= suppresses[i, i + 1 :]
    return order[~dropped]


def rle_in_image(mask: np.ndarray, x0: int, y0: int, image_size: tuple[int, int]) -> dict:
    """Encode a mask of part of an image as an RLE of the whole image, without the full mask.

    Args:
        mask: (h, w) bool, inside the image.
        x0, y0: its upper left corner in the image.
        image_size: (H, W).

    Returns:
        {"size": [H, W], "counts": str}, in pycocotools' format.
    """
    height, width = image_size
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1]), np.int8)
    padded[1:-1] = mask
    changes = np.diff(padded, axis=0).T  # (w, h + 1): 1 where a run starts, -1 after its end
    columns, starts = (changes == 1).nonzero()
    _, ends = (changes == -1).nonzero()
    offset = (columns + x0) * height + y0  # RLE goes down the columns
    runs = np.stack([offset + starts, offset + ends], axis=1).reshape(-1)
    # Join runs that continue at the top of the next column.
    joined = np.flatnonzero(runs[1:-1:2] == runs[2::2]) * 2 + 1
    runs = np.delete(runs, np.concatenate([joined, joined + 1]))
    ends_with_run = len(runs) and runs[-1] == height * width
    limits = np.concatenate([[0], runs, [] if ends_with_run else [height * width]])
    counts = np.diff(limits).astype(int).tolist()
    rle = mask_util.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("utf-8")}
