"""Sums of feature cells against a dense matrix product, and the order in which ROIs are summed."""

import pytest
import torch
from torch import Tensor

from d2lite.layers import sparse_pool
from d2lite.layers.sparse_pool import Chunk, plan_chunks

BINS = 2
# Rows of the levels' tables and their weights, for each bin of ROI 1, of ROI 2, and of ROI 0.
TERMS = {
    0: ([[0, 3], [2, 2]], [[0.5, 2.0], [1.0, -1.0]]),
    1: ([[7, 1], [4, 0]], [[1.0, 0.0], [3.0, 1.0]]),
    2: ([[5, 0], [1, 5]], [[1.0, 1.0], [0.25, 4.0]]),
}


class TinyPlan:
    """Three ROIs; the first two of the order are on level 0, the last one is on level 2."""

    order = torch.tensor([1, 2, 0])
    chunks = [Chunk(0, 0, 1, (2,)), Chunk(0, 1, 1, (2,)), Chunk(2, 2, 1, (2,))]
    bins = BINS

    def terms(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        cell, weight = TERMS[chunk.start]
        return torch.tensor(cell, dtype=torch.int32), torch.tensor(weight)


def features() -> list[Tensor]:
    """Two images of 2 x 2, 1 x 1 and 1 x 3 cells."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, *size, generator=generator) for size in ((2, 2), (1, 1), (1, 3))]


def dense_pool(features: list[Tensor]) -> Tensor:
    """Multiply a matrix of all weights with the cells of all levels."""
    tables = [x.permute(0, 2, 3, 1).reshape(-1, 3) for x in features]
    first_row = [0, 8, 10]
    matrix = torch.zeros(3, BINS, sum(map(len, tables)))
    for place, (roi, level) in enumerate(zip((1, 2, 0), (0, 0, 2), strict=True)):
        for bin_, (cells, weights) in enumerate(zip(*TERMS[place], strict=True)):
            for cell, weight in zip(cells, weights, strict=True):
                matrix[roi, bin_, first_row[level] + cell] += weight
    return (matrix @ torch.cat(tables)).transpose(1, 2)  # (R, C, P)


@pytest.mark.parametrize("bound", [None, 1])
def test_sums_and_gradients_are_those_of_a_matrix_product(monkeypatch, bound):
    if bound is not None:  # groups of one chunk, whose gradients are added
        monkeypatch.setattr(sparse_pool, "TERMS_PER_GRADIENT", bound)
    results = []
    for pool in (dense_pool, lambda x: sparse_pool.sparse_pool(x, TinyPlan())):
        inputs = [x.requires_grad_() for x in features()]
        pooled = pool(inputs)
        upstream = torch.arange(pooled.numel(), dtype=torch.float32).view_as(pooled)
        results.append((pooled, *torch.autograd.grad(pooled, inputs, upstream)))
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected)
    assert results[1][0].is_contiguous()
    assert not results[1][2].any()  # the level without ROIs


def test_frozen_levels_get_no_gradient():
    inputs = features()
    inputs[2].requires_grad_()
    sparse_pool.sparse_pool(inputs, TinyPlan()).sum().backward()
    assert inputs[0].grad is None
    # ROI 0 sums cells 5 and 0, and 1 and 5: by hand, with weights 1, 1, 0.25 and 4.
    rows = inputs[2].grad.permute(0, 2, 3, 1).reshape(-1, 3)
    assert rows[:, 0].tolist() == [1, 0.25, 0, 0, 0, 5]


def plan(**bounds):
    """Order and chunks of ROIs on levels 1, 0, 0, 0, which need 1x1, 2x1, 1x1 and 1x1 terms."""
    levels = torch.tensor([1, 0, 0, 0])
    height, width = torch.tensor([1, 2, 1, 1]), torch.tensor([1, 1, 1, 1])
    order, chunks = plan_chunks(levels, height, width, bins=1)
    return order.tolist(), [tuple(chunk) for chunk in chunks]


def test_rois_are_ordered_by_level_and_work_and_share_chunks_where_that_is_cheap():
    # Padding two ROIs from 1 to 2 terms costs less than a call.
    assert plan() == ([2, 3, 1, 0], [(0, 0, 3, (2, 1)), (1, 3, 1, (1, 1))])


def test_rois_are_not_padded_where_a_call_costs_less(monkeypatch):
    monkeypatch.setattr(sparse_pool, "TERMS_WORTH_A_CALL", 1)  # the padding is 2
    expected = [(0, 0, 2, (1, 1)), (0, 2, 1, (2, 1)), (1, 3, 1, (1, 1))]
    assert plan() == ([2, 3, 1, 0], expected)


@pytest.mark.parametrize("name, bound", [("TERMS_PER_CHUNK", 4), ("BINS_PER_CHUNK", 2)])
def test_chunks_are_bounded(monkeypatch, name, bound):
    monkeypatch.setattr(sparse_pool, name, bound)  # two ROIs of 2 terms, or of one bin
    expected = [(0, 0, 2, (2, 1)), (0, 2, 1, (2, 1)), (1, 3, 1, (1, 1))]
    assert plan() == ([2, 3, 1, 0], expected)


def test_different_extents_are_padded_to_the_largest_of_each_axis():
    order, chunks = plan_chunks(
        torch.zeros(2, dtype=torch.int64), torch.tensor([3, 1]), torch.tensor([2, 5]), bins=4
    )
    assert order.tolist() == [1, 0] and chunks == [Chunk(0, 0, 2, (3, 5))]


def test_no_rois_make_no_chunks():
    none = torch.zeros(0, dtype=torch.int64)
    order, chunks = plan_chunks(none, none, none, bins=4)
    assert order.shape == (0,) and chunks == []
