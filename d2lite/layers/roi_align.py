"""ROIAlign over one or several feature levels (Mask R-CNN, sec. 3).

ROIAlign is linear in the features: every output bin is a weighted sum of the few cells it covers,
and the weights are a product of one vector per axis. On a CPU it is computed that way; see
`sparse_pool`. On a GPU torchvision's kernel is used, which is fast there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align as torchvision_roi_align

from d2lite.layers.sparse_pool import Chunk, plan_chunks, sparse_pool
from d2lite.layers.wrappers import check_if_dynamo_compiling
from d2lite.utils.errors import ArgumentError


class ROIAlign(nn.Module):
    """ROIAlign of one feature map."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ):
        """Store the settings; see `roi_align`."""
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) and (R, 5) of (image, x1, y1, x2, y2) -> (R, C, *output_size)."""
        if rois.dim() != 2 or rois.shape[1] != 5:
            raise ArgumentError(f"rois must be (R, 5), got {tuple(rois.shape)}")
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )

    def extra_repr(self) -> str:
        names = ("output_size", "spatial_scale", "sampling_ratio", "aligned")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Apply ROIAlign to one feature map, with the signature of `torchvision.ops.roi_align`.

    Args:
        input: (N, C, H, W).
        boxes: (R, 5) of (image index, x1, y1, x2, y2), or a list of (Ri, 4) XYXY boxes per image.
        output_size: (height, width) of the result, or one number for both.
        spatial_scale: feature cells per unit of the boxes: 1 / stride for boxes in pixels.
        sampling_ratio: samples per bin along each axis; if 0 or less, the size of the bin in
            cells, rounded up.
        aligned: shift the boxes by half a cell, so that the value of a cell is at its center.
    Returns:
        (R, C, *output_size).
    """
    if not isinstance(boxes, Tensor):
        image = [b.new_full((len(b), 1), i) for i, b in enumerate(boxes)]
        boxes = torch.cat([torch.cat(image), torch.cat(list(boxes))], dim=1)
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    levels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return multilevel_roi_align(
        [input], boxes, levels, [spatial_scale], size, sampling_ratio, aligned
    )


def multilevel_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool = True,
) -> Tensor:
    """Apply ROIAlign to each ROI on its own level of a feature pyramid.

    Args:
        features: L maps (N, C, Hi, Wi).
        rois: (R, 5) of (image index, x1, y1, x2, y2) in input pixels.
        levels: (R,) int64 index into `features` for each ROI.
        scales: cells per input pixel of each level.
        output_size: (height, width) of the result.
        sampling_ratio, aligned: see `roi_align`.
    Returns:
        (R, C, *output_size), contiguous.
    """
    spec = PoolSpec(tuple(output_size), tuple(scales), sampling_ratio, aligned)
    # A compiled or exported graph cannot hold a plan that depends on the boxes.
    if features[0].device.type == "cpu" and not check_if_dynamo_compiling():
        sizes = [feature.shape[-2:] for feature in features]
        plan = UprightPlan(rois.detach().float(), levels, sizes, spec)
        return sparse_pool(features, plan).unflatten(2, spec.output_size)
    size, scales, *how = spec
    if len(features) == 1:
        return _torchvision(features[0], rois, size, scales[0], *how)
    pooled = features[0].new_zeros(len(rois), features[0].shape[1], *size)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        members = (levels == level).nonzero()[:, 0]
        crops = _torchvision(feature, rois[members], size, scale, *how)
        pooled = pooled.index_put((members,), crops)
    return pooled


class PoolSpec(NamedTuple):
    """Settings of one call of `multilevel_roi_align`."""

    output_size: tuple[int, int]
    scales: tuple[float, ...]
    sampling_ratio: int
    aligned: bool


def _torchvision(feature: Tensor, rois: Tensor, *args) -> Tensor:
    # The kernel lacks bfloat16, and half precision is too coarse for coordinates in large images.
    wide = feature.to(torch.promote_types(feature.dtype, torch.float32))
    return torchvision_roi_align(wide, rois.to(wide.dtype), *args).to(feature.dtype)


class UprightPlan:
    """`PoolPlan` of ROIAlign, where a bin's weights are the outer product of those per axis."""

    def __init__(
        self, rois: Tensor, levels: Tensor, sizes: Sequence[tuple[int, int]], spec: PoolSpec
    ):
        """Take the arguments of `multilevel_roi_align`, with (H, W) of each level as `sizes`."""
        self.sizes = sizes
        self.bins = spec.output_size[0] * spec.output_size[1]
        scale = torch.tensor(spec.scales)[levels]
        rows, columns = torch.tensor(sizes)[levels].unbind(1)
        x1, y1, x2, y2 = (rois[:, 1:] * scale[:, None] - spec.aligned * 0.5).unbind(1)
        width, height = x2 - x1, y2 - y1
        if not spec.aligned:  # the legacy variant widens ROIs to at least one cell
            width, height = width.clamp(min=1), height.clamp(min=1)
        y = axis_terms(y1, height, rows, spec.output_size[0], spec.sampling_ratio)
        x = axis_terms(x1, width, columns, spec.output_size[1], spec.sampling_ratio)
        self.order, self.chunks = plan_chunks(levels, y.width, x.width, self.bins)
        self._image = rois[:, 0].int()[self.order]
        self._y = AxisTerms(*(t[self.order] for t in y))
        self._x = AxisTerms(*(t[self.order] for t in x))

    def terms(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """See `PoolPlan.terms`."""
        height, width = self.sizes[chunk.level]
        part = slice(chunk.start, chunk.stop)
        row, row_weight = _cells(self._y, part, chunk.terms[0], height)  # (count, P_y, K_y)
        column, column_weight = _cells(self._x, part, chunk.terms[1], width)  # (count, P_x, K_x)
        row += self._image[part, None, None] * height
        cell = _each_with_each(torch.add, row * width, column)
        return cell, _each_with_each(torch.mul, row_weight, column_weight)


def _cells(axis: "AxisTerms", rois: slice, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` cells of each bin and their weights, both (R, P, count)."""
    cell = axis.first[rois, :, None] + torch.arange(count, dtype=torch.int32)
    return cell.clamp_(max=limit - 1), axis.weight[rois, :, :count]


def _each_with_each(op: Callable[..., Tensor], y: Tensor, x: Tensor) -> Tensor:
    """Apply `op` to every pair of a cell in y and a cell in x of the same bin.

    (R, P_y, K_y) and (R, P_x, K_x) -> (R * P_y * P_x, K_y * K_x). Both sides are expanded to the
    K_y * K_x cells of a bin first, since the large product runs at full speed only where its
    innermost loop is long.
    """
    (rois, y_bins, y_cells), (x_bins, x_cells) = y.shape, x.shape[1:]
    cells = y_cells * x_cells
    y = y[:, :, :, None].expand(-1, -1, -1, x_cells).reshape(rois, y_bins, 1, cells)
    x = x[:, :, None, :].expand(-1, -1, y_cells, -1).reshape(rois, 1, x_bins, cells)
    return op(y, x).view(-1, cells)


class AxisTerms(NamedTuple):
    """For each of P bins of R ROIs along one axis, the cells that it covers."""

    first: Tensor  # (R, P) int32: the first cell
    weight: Tensor  # (R, P, K): weights of K cells from there on, zeros after the last
    width: Tensor  # (R,) int64: number of cells that the widest bin of the ROI covers, at most K


def axis_terms(
    start: Tensor, extent: Tensor, cells: Tensor, bins: int, sampling_ratio: int
) -> AxisTerms:
    """Compute which cells the samples of each bin fall on along one axis, and with what weight.

    Args:
        start: (R,) left or top side of each ROI, in cells.
        extent: (R,) width or height of each ROI, in cells.
        cells: (R,) int64 width or height of the feature map of each ROI, in cells.
        bins: P, the number of bins along this axis.
        sampling_ratio: see `roi_align`.
    """
    bin_size = extent / bins
    samples = bin_size.ceil().long().clamp(min=0)  # (R,) per bin
    if sampling_ratio > 0:
        samples = torch.full_like(samples, sampling_ratio)
    first_side = (start[:, None] + bin_size[:, None] * torch.arange(bins)).flatten()  # (R*P,)
    samples, step, last_cell = (
        x.repeat_interleave(bins) for x in (samples, bin_size / samples, cells - 1)
    )
    # One entry per sample, S in all: padding to the longest ROI would cost many times as much.
    bin_ = torch.arange(len(samples)).repeat_interleave(samples)  # (S,)
    rank = torch.arange(len(bin_)) - (samples.cumsum(0) - samples)[bin_]
    at = first_side[bin_] + (rank + 0.5) * step[bin_]
    last_cell = last_cell[bin_]
    share = ((at >= -1) & (at <= last_cell + 1)) / samples[bin_]  # too far outside counts as 0
    at = torch.minimum(at.clamp(min=0), last_cell)
    cell = at.long()
    upper = (at - cell) * share  # weight of the next cell; the sample's own cell gets the rest
    # Add up the samples of each bin, from the first cell that it has a sample in.
    first = torch.zeros(len(samples), dtype=torch.int64)  # (R*P,)
    is_first = rank == 0
    first[bin_[is_first]] = cell[is_first]
    slot = cell - first[bin_]
    width = torch.full_like(first, 2).scatter_reduce_(0, bin_, slot + 2, "amax")
    size = int(width.max()) if len(samples) else 0
    weight = torch.zeros(len(samples), size)
    slot += bin_ * size
    weight.view(-1).scatter_add_(0, slot, share - upper)
    weight.view(-1).scatter_add_(0, slot + 1, upper)
    return AxisTerms(
        first.view(-1, bins).int(),
        weight.view(len(start), bins, weight.shape[1]),
        width.view(-1, bins).amax(1),
    )
