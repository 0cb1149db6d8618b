"""Batches whose items belong together."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

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
