"""ROIAlign of rotated boxes, computed by `sparse_pool` on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2lite.layers.sparse_pool import Chunk, plan_chunks, sparse_pool
from d2lite.utils.errors import ArgumentError


class ROIAlignRotated(nn.Module):
    """ROIAlign of rotated boxes on one feature map, always with `aligned` of `roi_align`."""

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int
    ):
        """Store the settings; see `roi_align_rotated`."""
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W), (R, 6) as in `roi_align_rotated` -> (R, C, *output_size)."""
        if rois.dim() != 2 or rois.shape[1] != 6:
            raise ArgumentError(f"rois must be (R, 6), got {tuple(rois.shape)}")
        return roi_align_rotated(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio
        )

    def extra_repr(self) -> str:
        names = ("output_size", "spatial_scale", "sampling_ratio")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    """Apply ROIAlign to rotated boxes on one feature map.

    Args:
        input: (N, C, H, W).
        rois: (R, 6) of (image index, center x, center y, width, height, degrees
            counter-clockwise).
        output_size: (height, width) of the result, or one number for both.
        spatial_scale: feature cells per unit of the boxes: 1 / stride for boxes in pixels.
        sampling_ratio: samples per bin along each axis; if 0 or less, the size of the bin in
            cells, rounded up.
    Returns:
        (R, C, *output_size).
    """
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    levels = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    return multilevel_roi_align_rotated(
        [input], rois, levels, [spatial_scale], size, sampling_ratio
    )


def multilevel_roi_align_rotated(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
) -> Tensor:
    """Apply ROIAlign to each rotated ROI on its own level of a feature pyramid.

    Args:
        features: L maps (N, C, Hi, Wi).
        rois: (R, 6), see `roi_align_rotated`, in input pixels.
        levels: (R,) int64 index into `features` for each ROI.
        scales: cells per input pixel of each level.
        output_size: (height, width) of the result.
        sampling_ratio: see `roi_align_rotated`.
    Returns:
        (R, C, *output_size), contiguous.
    """
    size = tuple(output_size)
    sizes = [feature.shape[-2:] for feature in features]
    plan = RotatedPlan(rois.detach().float(), levels, sizes, scales, size, sampling_ratio)
    return sparse_pool(features, plan).unflatten(2, size)


class RotatedPlan:
    """`PoolPlan` of rotated ROIAlign: four cells for every sample of a bin."""

    def __init__(
        self,
        rois: Tensor,
        levels: Tensor,
        sizes: Sequence[tuple[int, int]],
        scales: Sequence[float],
        output_size: tuple[int, int],
        sampling_ratio: int,
    ):
        """Take those of `multilevel_roi_align_rotated`, with (H, W) of each level as `sizes`."""
        self.sizes = sizes
        self.output_size = output_size
        self.bins = output_size[0] * output_size[1]
        scale = rois.new_tensor(scales)[levels][:, None]
        center = rois[:, 1:3] * scale - 0.5
        extent = (rois[:, 3:5] * scale).flip(1)  # (R, 2) of height, width
        bin_size = extent / rois.new_tensor(output_size)
        samples = bin_size.ceil().clamp(min=0)
        if sampling_ratio > 0:
            samples = torch.full_like(samples, sampling_ratio)
        per_axis = samples.long().clamp(min=1)
        self.order, self.chunks = plan_chunks(
            levels, 2 * per_axis[:, 0], 2 * per_axis[:, 1], self.bins
        )
        self._image, self._angle = rois[self.order, 0].int(), rois[self.order, 5].deg2rad()
        self._center, self._extent = center[self.order], extent[self.order]
        self._bin_size, self._samples = bin_size[self.order], samples[self.order]

    def terms(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """See `PoolPlan.terms`."""
        part = slice(chunk.start, chunk.stop)
        down, down_counts = self._offsets(part, axis=0, most=chunk.terms[0] // 2)
        across, across_counts = self._offsets(part, axis=1, most=chunk.terms[1] // 2)
        down, down_counts = (t[:, :, None, :, None] for t in (down, down_counts))
        across, across_counts = (t[:, None, :, None, :] for t in (across, across_counts))
        cos, sin = (f(self._angle[part]).view(-1, 1, 1, 1, 1) for f in (torch.cos, torch.sin))
        x, y = (c.view(-1, 1, 1, 1, 1) for c in self._center[part].unbind(1))
        # (count, P_y, P_x, samples down, samples across), here and below
        y = y + down * cos - across * sin
        x = x + down * sin + across * cos
        total = self._samples[part].prod(1).clamp(min=1).view(-1, 1, 1, 1, 1)
        share = down_counts * across_counts / total
        image = self._image[part].view(-1, 1, 1, 1, 1)
        cell, weight = bilinear_terms(image, y, x, self.sizes[chunk.level], share)
        rows = chunk.count * self.bins
        return cell.reshape(rows, -1), weight.reshape(rows, -1)

    def _offsets(self, part: slice, axis: int, most: int) -> tuple[Tensor, Tensor]:
        """Locate the samples of each bin along one side of the ROIs.

        Returns:
            (count, P, most) offsets from the center of the ROI, in cells, and (count, 1, most)
            bool: whether the sample is used.
        """
        samples = self._samples[part, axis, None, None]
        device = samples.device
        rank = torch.arange(most, device=device)
        bin_ = torch.arange(self.output_size[axis], device=device)[:, None]
        position = bin_ + (rank + 0.5) / samples.clamp(min=1)
        start = -self._extent[part, axis, None, None] / 2
        return start + position * self._bin_size[part, axis, None, None], rank < samples


def bilinear_terms(
    image: Tensor, y: Tensor, x: Tensor, size: tuple[int, int], share: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the four cells around each sample, and their weights in bilinear interpolation.

    Samples more than one cell outside the map get weight 0; nearer ones are moved to its edge.

    Args:
        image: (...) int index of the map of each sample.
        y, x: (...) position in cells, measured from the center of the first cell.
        size: (height, width) of the maps, in cells.
        share: (...) factor on the weights.

    Returns:
        (..., 4) int indices into the cells of all maps, and (..., 4) weights.
    """
    height, width = size
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    share = torch.where(inside, share, 0.0)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.int(), x.int()
    below, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    y, x = y - top, x - left
    top, below = (image * height + top) * width, (image * height + below) * width
    cell = torch.stack([top + left, top + right, below + left, below + right], dim=-1)
    weights = [(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x]
    return cell, torch.stack(weights, dim=-1) * share[..., None]
