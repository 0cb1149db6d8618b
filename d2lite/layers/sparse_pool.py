"""Pooling as a sparse matrix product: every output bin is a weighted sum of feature cells.

In the forward pass, `torch.embedding_bag` sums rows of C values, one row per cell, on all cores and
at the speed of the cache. The gradient is the same sum with cells and bins swapped.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Terms (a cell in a bin) summed by one call. Enough to keep all cores busy, few enough that the
# result is still in the cache when it is moved to its place.
TERMS_PER_CHUNK = 1 << 17
BINS_PER_CHUNK = 1 << 13
# Number of terms that take as long to sum as everything else done for a chunk.
TERMS_WORTH_A_CALL = 1 << 13
# Terms whose gradient is summed by one call; each takes some 50 bytes while they are sorted.
TERMS_PER_GRADIENT = 1 << 21
# Values of features or gradients rearranged into rows at a time: 8 MB, which stays in the cache and
# in the heap, where larger blocks are mapped afresh (and zeroed by the system) on every call.
VALUES_PER_TABLE = 1 << 21


class Chunk(NamedTuple):
    """Some ROIs of one level, next to each other in the order of the plan."""

    level: int
    start: int
    count: int
    terms: tuple[int, ...]  # terms per bin, as the factors that the plan needs

    @property
    def stop(self) -> int:
        return self.start + self.count


class PoolPlan(Protocol):
    """Assignment of cells to bins. ROIs are sorted so that neighbors need the same work."""

    order: Tensor  # (R,) int64: index of the ROI at each place of the order
    chunks: list[Chunk]  # sorted by level and start
    bins: int  # P, per ROI

    def terms(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Return the cells and their weights for each bin of the chunk.

        Returns:
            (count * P, K) int32 rows of the level's table, (image * H + y) * W + x, and the
            float weights of the same shape; a weight may be 0.
        """
        ...


def sparse_pool(features: Sequence[Tensor], plan: PoolPlan) -> Tensor:
    """Sum feature cells into bins, with gradients for the features.

    Args:
        features: L maps (N, C, Hi, Wi).
    Returns:
        (R, C, P), contiguous, in the order in which the ROIs were given.
    """
    return _SparsePool.apply(plan, *features)


class _SparsePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan: PoolPlan, *features: Tensor) -> Tensor:
        # Terms are recomputed for the gradient: they are quick to compute and large to keep.
        ctx.plan = plan
        ctx.features = [feature.to("meta") for feature in features]
        pooled = features[0].new_empty(len(plan.order), features[0].shape[1], plan.bins)
        for level, group in groupby(plan.chunks, key=lambda chunk: chunk.level):
            feature, chunks = features[level], list(group)
            for part in _channel_blocks(feature.shape[1], feature[:, 0].numel()):
                table = _rows(feature[:, part].flatten(2))  # (N * H * W, channels)
                for chunk in chunks:
                    cell, weight = plan.terms(chunk)
                    first_terms = torch.arange(
                        0, cell.numel(), cell.shape[1], dtype=cell.dtype, device=cell.device
                    )
                    sums = _embedding_bag(table, cell.flatten(), first_terms, weight.flatten())
                    rois = plan.order[chunk.start : chunk.stop]
                    sums = sums.view(chunk.count, plan.bins, -1).transpose(1, 2)
                    pooled[:, part].index_copy_(0, rois, sums.to(pooled.dtype))
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = []
        for level, feature in enumerate(ctx.features):
            if not ctx.needs_input_grad[1 + level]:
                gradients.append(None)
                continue
            total = torch.empty_like(feature, device=gradient.device)
            chunks = [chunk for chunk in ctx.plan.chunks if chunk.level == level]
            groups = list(_gradient_groups(chunks, ctx.plan.bins))
            for i, group in enumerate(groups):
                _add_gradient(total, gradient, group, ctx.plan, to_earlier=i > 0)
            gradients.append(total if groups else total.zero_())
        return None, *gradients


def _add_gradient(
    total: Tensor, gradient: Tensor, chunks: list[Chunk], plan: PoolPlan, to_earlier: bool
) -> None:
    """Set `total` to the features' gradient from the ROIs of `chunks`.

    Args:
        total: (N, C, H, W).
        gradient: (R, C, P), the gradient of the pooled bins.
        to_earlier: add to the values in `total` instead.
    """
    cells = total[:, 0].numel()
    start, stop = chunks[0].start, chunks[-1].stop
    bin_, offsets, weight = _transposed_terms(chunks, plan, cells)
    rois = plan.order[start:stop]
    for part in _channel_blocks(total.shape[1], max(len(rois) * plan.bins, cells)):
        table = _rows(gradient[:, part].index_select(0, rois))  # (rois * P, channels)
        sums = _embedding_bag(table, bin_, offsets, weight)  # (cells, channels)
        block = total[:, part]
        sums = sums.view(len(block), *block.shape[2:], -1).permute(0, 3, 1, 2)
        if to_earlier:
            block += sums
        else:
            block.copy_(sums)


def _transposed_terms(
    chunks: list[Chunk], plan: PoolPlan, cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the terms of the chunks, sorted by cell: bins, first term of each cell, weights."""
    cell, bin_, weight = [], [], []
    for chunk in chunks:
        cell_of_chunk, weight_of_chunk = plan.terms(chunk)
        first = (chunk.start - chunks[0].start) * plan.bins
        last = first + len(cell_of_chunk)
        bins = torch.arange(first, last, dtype=torch.int32, device=cell_of_chunk.device)
        cell.append(cell_of_chunk.flatten())
        weight.append(weight_of_chunk.flatten())
        bin_.append(bins[:, None].expand_as(cell_of_chunk).flatten())
    cell, bin_, weight = torch.cat(cell), torch.cat(bin_), torch.cat(weight)
    used = weight.nonzero()[:, 0]
    cell, order = cell.index_select(0, used).sort(stable=True)
    order = used.index_select(0, order)
    every_cell = torch.arange(cells, dtype=cell.dtype, device=cell.device)
    offsets = torch.searchsorted(cell, every_cell, out_int32=True)
    return bin_.index_select(0, order), offsets, weight.index_select(0, order)


def _embedding_bag(table: Tensor, index: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    sums, *_ = torch.embedding_bag(
        table, index, offsets, mode=0, per_sample_weights=weight.to(table.dtype)
    )
    return sums


def _rows(values: Tensor) -> Tensor:
    """Return (A, C, B) -> (A * B, C) contiguous, in float32 or better; a view where possible."""
    rows = values.transpose(1, 2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return rows.contiguous().view(-1, values.shape[1])


def _channel_blocks(channels: int, rows: int) -> Iterator[slice]:
    """Split the channels so that a table of `rows` rows stays within VALUES_PER_TABLE."""
    size = max(64, VALUES_PER_TABLE // max(rows, 1))
    for start in range(0, channels, size):
        yield slice(start, min(start + size, channels))


def _gradient_groups(chunks: list[Chunk], bins: int) -> Iterator[list[Chunk]]:
    """Split the chunks of a level into groups of a bounded number of terms."""
    group: list[Chunk] = []
    total = 0
    for chunk in chunks:
        terms = chunk.count * bins * math.prod(chunk.terms)
        if group and total + terms > TERMS_PER_GRADIENT:
            yield group
            group, total = [], 0
        group.append(chunk)
        total += terms
    if group:
        yield group


def plan_chunks(
    levels: Tensor, height: Tensor, width: Tensor, bins: int
) -> tuple[Tensor, list[Chunk]]:
    """Group ROIs of similar size, so that little work is lost to padding them to the largest.

    Args:
        levels: (R,) int64 index of the level of each ROI.
        height, width: (R,) int64 below 2**16; a bin of the ROI takes height * width terms.
        bins: P, per ROI.
    Returns:
        (R,) int64 order of the ROIs, and the chunks of that order.
    """
    key = (levels << 32) + (height << 16) + width
    key, order = key.sort(stable=True)
    keys, counts = key.unique_consecutive(return_counts=True)
    chunks: list[Chunk] = []
    start = 0
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        run = Chunk(key >> 32, start, count, ((key >> 16) & 0xFFFF, key & 0xFFFF))
        merged = _merged(chunks[-1], run, bins) if chunks else None
        if merged:
            chunks[-1] = merged
        else:
            chunks.append(run)
        start += count
    return order, [part for chunk in chunks for part in _split(chunk, bins)]


def _merged(a: Chunk, b: Chunk, bins: int) -> Chunk | None:
    """Return both chunks as one if that costs less than another round of calls, else None."""
    terms = tuple(map(max, a.terms, b.terms))
    both = (a.count + b.count) * math.prod(terms)
    padding = both - a.count * math.prod(a.terms) - b.count * math.prod(b.terms)
    if a.level != b.level or padding * bins > TERMS_WORTH_A_CALL:
        return None
    return Chunk(a.level, a.start, a.count + b.count, terms)


def _split(chunk: Chunk, bins: int) -> Iterator[Chunk]:
    terms_per_roi = bins * math.prod(chunk.terms)
    most = max(1, min(TERMS_PER_CHUNK // terms_per_roi, BINS_PER_CHUNK // bins))
    for start in range(chunk.start, chunk.stop, most):
        yield chunk._replace(start=start, count=min(most, chunk.stop - start))
