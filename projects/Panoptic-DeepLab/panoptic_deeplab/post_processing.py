"""Grouping of pixels around centers into a panoptic segmentation (Cheng et al. 2020, sec. 3.3)."""

from collections import Counter
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS_AT_A_TIME = 1 << 16  # limits the memory of distances from pixels to centers


def find_instance_center(
    center_heatmap: Tensor, threshold: float = 0.1, nms_kernel: int = 3, top_k: int | None = None
) -> Tensor:
    """Find the maxima of a map of centers.

    Args:
        center_heatmap: (1, H, W) or (1, 1, H, W).
        threshold: maxima must be above this.
        nms_kernel: odd side of the square in which a maximum is the largest value.
        top_k: keep only values above the k-th largest, so fewer than k; None keeps all.

    Returns:
        (K, 2) int64 positions, y and x, in reading order.
    """
    values = F.threshold(center_heatmap, threshold, -1)
    around = F.max_pool2d(values, nms_kernel, stride=1, padding=(nms_kernel - 1) // 2)
    values = values.masked_fill(values != around, -1).view(values.shape[-2:])  # (H, W)
    least = values.new_zeros(())
    if top_k is not None:
        least = values.flatten().topk(min(top_k, values.numel())).values[-1].clamp(min=0)
    return (values > least).nonzero()


def group_pixels(center_points: Tensor, offsets: Tensor) -> Tensor:
    """Assign every pixel to the center that is nearest to where its offset points.

    Args:
        center_points: (K, 2) positions, y and x, K >= 1.
        offsets: (2, H, W), y and x.

    Returns:
        (1, H, W) int64: 1 + the index of a center.
    """
    height, width = offsets.shape[1:]
    y = torch.arange(height, dtype=offsets.dtype, device=offsets.device)[:, None]
    x = torch.arange(width, dtype=offsets.dtype, device=offsets.device)[None, :]
    targets = torch.stack([y + offsets[0], x + offsets[1]], dim=-1).flatten(0, 1)  # (H * W, 2)
    centers = center_points.to(targets.dtype)
    nearest = [
        (centers[:, None] - part).norm(dim=-1).argmin(dim=0)  # from (K, pixels)
        for part in targets.split(PIXELS_AT_A_TIME)
    ]
    return torch.cat(nearest).view(1, height, width) + 1


def get_instance_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_seg: Tensor,
    thing_ids: Collection[int],
    threshold: float = 0.1,
    nms_kernel: int = 3,
    top_k: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Group the pixels of things around centers, whatever their class.

    Args:
        sem_seg: (1, H, W) class labels; only its shape and type are used.
        center_heatmap: (1, H, W).
        offsets: (2, H, W).
        thing_seg: (1, H, W), 1 for things and 0 for stuff.
        thing_ids: not used.
        threshold, nms_kernel, top_k: see `find_instance_center`.

    Returns:
        (1, H, W) instance ids, 0 for stuff, and the (1, K, 2) centers.
    """
    centers = find_instance_center(center_heatmap, threshold, nms_kernel, top_k)
    if len(centers) == 0:
        return torch.zeros_like(sem_seg), centers[None]
    return thing_seg * group_pixels(centers, offsets), centers[None]


def merge_semantic_and_instance(
    sem_seg: Tensor,
    ins_seg: Tensor,
    semantic_thing_seg: Tensor,
    label_divisor: int,
    thing_ids: Collection[int],
    stuff_area: int,
    void_label: int,
) -> Tensor:
    """Give each instance the class that most of its pixels have, and fill the rest with stuff.

    Args:
        sem_seg: (1, H, W) class labels.
        ins_seg: (1, H, W) instance ids, 0 for none.
        semantic_thing_seg: (1, H, W), 1 for things and 0 for stuff.
        label_divisor: a segment's id is class * label_divisor + number of the instance in it.
        thing_ids: contiguous category ids of things.
        stuff_area: minimum number of pixels that stuff of a class must cover.
        void_label: id of pixels without a segment.

    Returns:
        (1, H, W) segment ids.
    """
    panoptic = torch.full_like(sem_seg, void_label)
    is_thing = (ins_seg > 0) & (semantic_thing_seg > 0)
    num_of_class: Counter = Counter()
    for instance in ins_seg[is_thing].unique():
        mask = (ins_seg == instance) & is_thing
        category = int(sem_seg[mask].mode().values)
        num_of_class[category] += 1
        panoptic[mask] = category * label_divisor + num_of_class[category]
    things = set(thing_ids)
    for category in sem_seg.unique().tolist():
        if category not in things:
            mask = (sem_seg == category) & (ins_seg == 0)
            if mask.sum() >= stuff_area:
                panoptic[mask] = category * label_divisor
    return panoptic


def get_panoptic_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_ids: Collection[int],
    label_divisor: int,
    stuff_area: int,
    void_label: int,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int = 200,
    foreground_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Make a panoptic segmentation from classes, centers and offsets.

    Args:
        sem_seg: (1, H, W) class labels.
        center_heatmap: (1, H, W).
        offsets: (2, H, W), y and x.
        thing_ids, label_divisor, stuff_area, void_label: see `merge_semantic_and_instance`.
        threshold, nms_kernel, top_k: see `find_instance_center`.
        foreground_mask: (1, H, W), 1 for things; by default determined by the classes.

    Returns:
        (1, H, W) segment ids, and the (1, K, 2) centers.

    Raises:
        ValueError: an argument does not have the shape given here.
    """
    channels = {"sem_seg": (sem_seg, 1), "center_heatmap": (center_heatmap, 1)}
    channels["offsets"] = (offsets, 2)
    if foreground_mask is not None:
        channels["foreground_mask"] = (foreground_mask, 1)
    for name, (tensor, wanted) in channels.items():
        if tensor.dim() != 3 or tensor.shape[0] != wanted:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected ({wanted}, H, W)")
    things = foreground_mask
    if things is None:
        ids = torch.tensor(sorted(thing_ids), dtype=sem_seg.dtype, device=sem_seg.device)
        things = torch.isin(sem_seg, ids).to(sem_seg.dtype)
    instances, centers = get_instance_segmentation(
        sem_seg, center_heatmap, offsets, things, thing_ids, threshold, nms_kernel, top_k
    )
    panoptic = merge_semantic_and_instance(
        sem_seg, instances, things, label_divisor, thing_ids, stuff_area, void_label
    )
    return panoptic, centers
