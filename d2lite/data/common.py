"""Dataset wrappers: lists, mapped datasets, batches grouped by aspect ratio."""

import contextlib
import copy
import functools
import logging
import os
import pickle
import random
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch.utils.data as data

from d2lite.data.worker_deaths import at_work_on
from d2lite.utils.serialize import PicklableWrapper

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


# The keys of an annotation that models learn from.
_TRUTH = ("category_id", "bbox", "segmentation", "keypoints", "iscrowd")


def aspect_group(width: int, height: int) -> int:
    """Return the group of images that share batches: 0 if wider than high, else 1."""
    return 0 if width > height else 1


class Others(NamedTuple):
    """Other samples that a sample may be mixed with."""

    dataset: Sequence[dict]  # dicts of a dataset, including that of the sample itself
    iteration: int  # training iteration that uses the sample


class _MapIterableDataset(data.IterableDataset):
    """Iterable dataset mapped by a function; items for which it returns None are skipped."""

    def __init__(self, dataset: data.IterableDataset, map_func: Callable):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        return (item for item in map(self._map_func, self._dataset) if item is not None)


class MapDataset(data.Dataset):
    """Dataset whose items are those of another one, mapped by a function.

    If the function returns None, indexing returns another random item instead. (Training loaders
    draw the replacement themselves, so that it depends only on their seed.)
    """

    def __new__(cls, dataset, map_func):
        """Return a MapDataset, or for an IterableDataset one that is iterable as well."""
        if isinstance(dataset, data.IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: data.Dataset, map_func: Callable):
        """
        Args:
            dataset: indexable or iterable.
            map_func: takes an item; returns the new one, or None to use another item.
        """
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        self._rng = random.Random(42)

    @functools.cached_property
    def _fallback_candidates(self) -> set[int]:
        """Indices of items that have not been mapped to None."""
        return set(range(len(self)))

    def __getnewargs__(self) -> tuple:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        """Return the length of the wrapped dataset."""
        return len(self._dataset)

    def fingerprint(self) -> int | None:
        """Return the fingerprint of a wrapped `DatasetFromList`; None for other datasets."""
        return self._dataset.fingerprint() if isinstance(self._dataset, DatasetFromList) else None

    def map_item(self, index: int, iteration: int = 0) -> Any:
        """Return what the function makes of item `index`, which may be None.

        A function with `mixing` gets the other items, too.

        Args:
            iteration: training iteration that uses the item.
        """
        item = self._dataset[index]
        if getattr(self._map_func, "mixing", None) is not None:
            return self._map_func(item, others=Others(self._dataset, iteration))
        return self._map_func(item)

    def __getitem__(self, idx: int) -> Any:
        """Return the mapped item `idx`, or another one if it is mapped to None.

        Raises:
            RuntimeError: all items are mapped to None.
        """
        with at_work_on(int(idx)):
            item = self.map_item(int(idx))
        if item is not None:
            return item
        self._fallback_candidates.discard(int(idx))
        others = list(self._fallback_candidates)
        self._rng.shuffle(others)
        for other in others:
            item = self.map_item(other)
            if item is not None:
                return item
            self._fallback_candidates.discard(other)
        raise RuntimeError(f"the mapper returned None for all {len(self)} items of the dataset")


class _SerializedList:
    """A list whose items are pickled into one array.

    Forked loader workers share the array. Many small Python objects would gradually be copied to
    every worker, because changing their reference counts writes to their memory pages.
    """

    def __init__(self, lst: list):
        pickled = [np.frombuffer(pickle.dumps(item, protocol=-1), dtype=np.uint8) for item in lst]
        self._ends = np.cumsum([len(item) for item in pickled], dtype=np.int64)
        self._buffer = np.concatenate(pickled) if pickled else np.zeros(0, dtype=np.uint8)
        logger.info("Serialized %s items, %.2f MiB", len(lst), len(self._buffer) / 1024**2)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, idx: int) -> Any:
        idx = range(len(self))[idx]  # raises IndexError, allows negative ones
        begin = 0 if idx == 0 else self._ends[idx - 1]
        return pickle.loads(memoryview(self._buffer[begin : self._ends[idx]]))


_default_serialization: Callable[[list], Any] = _SerializedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list], Any]) -> Iterator[None]:
    """Let DatasetFromList store its items in `new(list)` inside the block."""
    global _default_serialization
    old, _default_serialization = _default_serialization, new
    try:
        yield
    finally:
        _default_serialization = old


class DatasetFromList(data.Dataset):
    """A list as a dataset."""

    def __init__(
        self, lst: list, copy: bool = True, serialize: bool | Callable[[list], Any] = True
    ):
        """
        Args:
            lst: the items.
            copy: whether indexing returns a deep copy if items are not serialized (serialized items
                are always new objects).
            serialize: True stores the items pickled in one array; a callable creates the container;
                False keeps the list.
        """
        self._copy = copy
        self._serialize = bool(serialize)
        if serialize:
            container = serialize if callable(serialize) else _default_serialization
            self._lst = container(lst)
        else:
            self._lst = lst

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._lst)

    def fingerprint(self) -> int | None:
        """Return a hash of the images, boxes and categories of the dataset dicts.

        Folders are ignored, since data may be moved. None if the items are not dicts.
        """
        found = 0
        for i in range(len(self._lst)):
            item = self._lst[i]
            if not isinstance(item, dict):
                return None
            name = os.path.basename(str(item.get("file_name")))
            found = zlib.crc32(f"{name} {item.get('image_id')}".encode(), found)
            for annotation in item.get("annotations") or ():
                facts = [annotation.get(key) for key in _TRUTH]
                found = zlib.crc32(pickle.dumps(facts, protocol=4), found)
        return found

    def __getitem__(self, idx: int) -> Any:
        """Return item `idx`; a new object if items are serialized or copied."""
        if self._copy and not self._serialize:
            return copy.deepcopy(self._lst[idx])
        return self._lst[idx]


def batches_by_group(
    items: Iterable[Item],
    group_of: Callable[[Item], int],
    batch_size: int,
    waiting: Mapping[int, list[Item]] | Sequence[list[Item]] | None = None,
) -> Iterator[list[Item]]:
    """Collect items by group, and yield a batch as soon as its group is full.

    Items keep their order within a group. Groups that are not full at the end are dropped.

    Args:
        waiting: leftover items of each group from before, to which the new ones are added.
    """
    waiting = defaultdict(list) if waiting is None else waiting
    for item in items:
        batch = waiting[group_of(item)]
        batch.append(item)
        if len(batch) == batch_size:
            full = batch[:]
            batch.clear()  # before the yield, because the caller may not resume the generator
            yield full


class AspectRatioGroupedDataset(data.IterableDataset):
    """Batches of items that are either all wider than high or all not, to reduce padding."""

    def __init__(self, dataset: Iterable[dict], batch_size: int):
        """
        Args:
            dataset: iterable of dicts with "width" and "height".
            batch_size: number of items in a batch.
        """
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: tuple[list[dict], list[dict]] = ([], [])  # by aspect_group

    def __iter__(self) -> Iterator[list[dict]]:
        """Yield each batch as soon as it is full; leftover items are kept for the next
        iteration."""
        return batches_by_group(
            self.dataset,
            lambda item: aspect_group(item["width"], item["height"]),
            self.batch_size,
            self._buckets,
        )
