"""Crop a fixed-size feature for each box, from the pyramid level that suits the box's size."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import RoIPool, roi_pool

from d2lite.layers.roi_align import ROIAlign, multilevel_roi_align
from d2lite.layers.roi_align_rotated import ROIAlignRotated, multilevel_roi_align_rotated
from d2lite.structures import Boxes, RotatedBoxes
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import lookup


class ROIPooler(nn.Module):
    """ROI pooling over one or several levels of a feature pyramid (FPN, sec. 4.2)."""

    def __init__(
        self,
        output_size: int | tuple[int, int] | list[int],
        scales: list[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ):
        """Store the settings of the pooling.

        Args:
            output_size: (height, width) of a crop, or one number for both.
            scales: cells per input pixel of every level; consecutive powers of 2, largest first.
            sampling_ratio: samples per bin along each axis; 0 for one per cell of the bin.
            pooler_type: a key of `POOLERS`. "ROIAlign" lacks the half-pixel shift of
                "ROIAlignV2".
            canonical_box_size: square root of the area, in pixels, of the boxes that belong to
                `canonical_level`.
            canonical_level: a level, as log2 of its stride.
        Raises:
            ValueError: `pooler_type` is unknown, or a size or the scales are invalid.
        """
        super().__init__()
        if isinstance(output_size, int):
            output_size = (output_size, output_size)
        self.output_size = tuple(output_size)
        if len(self.output_size) != 2 or canonical_box_size <= 0:
            raise ArgumentError(
                f"output_size must be one or two numbers and canonical_box_size positive, "
                f"got {output_size} and {canonical_box_size}"
            )
        make = lookup("pooler_type (POOLER_TYPE)", pooler_type, POOLERS)
        self.scales = list(scales)
        levels = [-math.log2(scale) for scale in self.scales]
        self.min_level = round(levels[0])
        self.max_level = self.min_level + len(levels) - 1
        if self.min_level < 0 or levels != list(range(self.min_level, self.max_level + 1)):
            raise ArgumentError(
                f"ROIPooler scales {self.scales} must be consecutive powers of 1/2, such as 1/4, "
                "1/8, 1/16"
            )
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level
        self.level_poolers = nn.ModuleList(
            make(self.output_size, scale, sampling_ratio) for scale in self.scales
        )

    def forward(self, x: list[Tensor], box_lists: list[Boxes | RotatedBoxes]) -> Tensor:
        """Pool the boxes of every image.

        Args:
            x: one (N, C, Hi, Wi) map per level, in the order of `scales`.
            box_lists: N sets of boxes in input pixels, R boxes in all.
        Returns:
            (R, C, *output_size), contiguous, in the order of the images.
        """
        if len(x) != len(self.scales):
            raise ArgumentError(
                f"ROIPooler has {len(self.scales)} scales, got {len(x)} feature maps"
            )
        if len(box_lists) != len(x[0]):
            raise ArgumentError(f"got boxes of {len(box_lists)} images for a batch of {len(x[0])}")
        if not box_lists:
            return x[0].new_zeros(0, x[0].shape[1], *self.output_size)
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.scales) == 1:
            levels = rois.new_zeros(len(rois), dtype=torch.int64)
        else:
            levels = assign_boxes_to_levels(
                box_lists,
                self.min_level,
                self.max_level,
                self.canonical_box_size,
                self.canonical_level,
            )
        first = self.level_poolers[0]
        if type(first) in _ALL_LEVELS and all(_is_alike(p, first) for p in self.level_poolers):
            scales = [pooler.spatial_scale for pooler in self.level_poolers]
            return _ALL_LEVELS[type(first)](first, x, rois, levels, scales)
        # Some poolers were replaced or have hooks, so each level needs its own call.
        pooled = x[0].new_zeros(len(rois), x[0].shape[1], *self.output_size)
        for level, (feature, pooler) in enumerate(zip(x, self.level_poolers, strict=True)):
            members = (levels == level).nonzero()[:, 0]
            pooled = pooled.index_put((members,), pooler(feature, rois[members]))
        return pooled


def assign_boxes_to_levels(
    box_lists: list[Boxes | RotatedBoxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """Find the pyramid level of each box by its size (FPN, eq. 1).

    A box of 224 x 224 pixels, the size of ImageNet's crops, is pooled at the stride of C4, as in
    detectors without a pyramid; a box of half that side is pooled one level finer.

    Args:
        box_lists: per image; R boxes in all.
        min_level, max_level: log2 of the strides of the first and last level.
        canonical_box_size, canonical_level: see `ROIPooler`.
    Returns:
        (R,) int64: 0 for `min_level`, counting up.
    """
    sizes = torch.cat([boxes.area() for boxes in box_lists]).sqrt()
    # 1e-8, as in detectron2: the logarithm of a box without area stays finite.
    levels = torch.floor(canonical_level + torch.log2(sizes / canonical_box_size + 1e-8))
    return levels.clamp(min_level, max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(box_lists: list[Boxes | RotatedBoxes]) -> Tensor:
    """Join the boxes of all images, each preceded by the index of its image.

    Returns:
        (R, 5) of (image, x1, y1, x2, y2), or (R, 6) of (image, cx, cy, w, h, angle).
    """
    numbered = [
        torch.cat([boxes.tensor.new_full((len(boxes), 1), image), boxes.tensor], dim=1)
        for image, boxes in enumerate(box_lists)
    ]
    return torch.cat(numbered)


def multilevel_roi_pool(
    features: list[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: list[float],
    output_size: tuple[int, int],
) -> Tensor:
    """Max-pool the bins of each ROI (Fast R-CNN, sec. 2.1); see `multilevel_roi_align`."""
    pooled = features[0].new_zeros(len(rois), features[0].shape[1], *output_size)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        members = (levels == level).nonzero()[:, 0]
        crops = roi_pool(feature, rois[members].to(feature.dtype), output_size, scale)
        pooled = pooled.index_put((members,), crops)
    return pooled


def _is_alike(pooler: nn.Module, first: nn.Module) -> bool:
    """Return whether one call can replace both: they differ only in scale, and have no hooks."""
    return (
        type(pooler) is type(first)
        and pooler.output_size == first.output_size
        and getattr(pooler, "sampling_ratio", None) == getattr(first, "sampling_ratio", None)
        and getattr(pooler, "aligned", None) == getattr(first, "aligned", None)
        and not pooler._forward_hooks
        and not pooler._forward_pre_hooks
    )


def _align(first: ROIAlign, x, rois, levels, scales) -> Tensor:
    size, ratio = first.output_size, first.sampling_ratio
    return multilevel_roi_align(x, rois, levels, scales, size, ratio, first.aligned)


def _align_rotated(first: ROIAlignRotated, x, rois, levels, scales) -> Tensor:
    size, ratio = first.output_size, first.sampling_ratio
    return multilevel_roi_align_rotated(x, rois, levels, scales, size, ratio)


def _max_pool(first: RoIPool, x, rois, levels, scales) -> Tensor:
    return multilevel_roi_pool(x, rois, levels, scales, first.output_size)


# Class of the poolers of single levels -> the function that pools from all levels at once.
_ALL_LEVELS: dict[type, Callable[..., Tensor]] = {
    ROIAlign: _align,
    ROIAlignRotated: _align_rotated,
    RoIPool: _max_pool,
}

# Name -> constructor of the pooler of one level: (output_size, spatial_scale, sampling_ratio).
POOLERS: dict[str, Callable[..., nn.Module]] = {
    "ROIAlign": partial(ROIAlign, aligned=False),
    "ROIAlignV2": partial(ROIAlign, aligned=True),
    "ROIAlignRotated": ROIAlignRotated,
    "ROIPool": lambda output_size, spatial_scale, _: RoIPool(output_size, spatial_scale),
}
