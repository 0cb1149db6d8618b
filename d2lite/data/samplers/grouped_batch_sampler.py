"""Batches whose items belong together."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from torch.utils.data.sampler import BatchSampler, Sampler

__all__ = ["GroupedBatchSampler", "batches_by_group"]

Item = TypeVar("Item")


def batches_by_group(
    items: Iterable[Item],
    group_of: Callable[[Item], int],
    batch_size: int,
    waiting: Mapping[int, list[Item]] | Sequence[list[Item]] | None = None,
) -> Iterator[list[Item]]:
    """Collect items by their group; a batch leaves as soon as its group is full.

    Items stay in order within a group. Groups that are not full when `items` end are dropped.

    Args:
        waiting: items of each group from before, to which these are added.
    """
    waiting = defaultdict(list) if waiting is None else waiting
    for item in items:
        batch = waiting[group_of(item)]
        batch.append(item)
        if len(batch) == batch_size:
            full = batch[:]
            batch.clear()  # before the yield, after which the caller may not come back
            yield full


class GroupedBatchSampler(BatchSampler):
    """Batches the indices of a sampler so that all of a batch are from one group.

    Keeps the order of the sampler as far as possible. For endless samplers: a finite one may leave
    groups behind that never fill, so there is no length.
    """

    def __init__(self, sampler: Sampler, group_ids, batch_size: int):
        """
        Args:
            sampler: gives indices.
            group_ids: sequence of ints: the group of every index.
            batch_size: items of a batch.
        """
        if not isinstance(sampler, Sampler):
            raise ValueError(f"GroupedBatchSampler needs a torch Sampler, not {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        assert self.group_ids.ndim == 1, f"group_ids has {self.group_ids.ndim} dimensions"
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of indices."""
        return batches_by_group(self.sampler, lambda i: int(self.group_ids[i]), self.batch_size)

    def __len__(self) -> int:
        """Not known."""
        raise NotImplementedError("the number of full batches depends on the order of the items")
