"""Time the parts of a data loader: dataset, mapper, worker processes, and transfer."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch.utils.data as torchdata
from torch.utils.data.sampler import Sampler

from d2lite.compat.old.iterable_data import ToIterableDataset
from d2lite.data.build import build_batch_data_loader
from d2lite.data.common import DatasetFromList, MapDataset
from d2lite.data.samplers import TrainingSampler
from d2lite.utils import comm

logger = logging.getLogger(__name__)


def iter_benchmark(
    iterator: Iterator, num_iter: int, warmup: int = 5, max_time_seconds: float = 60
) -> tuple[float, list[float]]:
    """Time an iterator.

    Args:
        iterator: if it ends before warmup + num_iter items, fewer are timed.
        num_iter: number of items to time.
        warmup: number of items before them, which are not timed.
        max_time_seconds: stop timing after this time.
    Returns:
        (average seconds per item, seconds of each item).
    Raises:
        ValueError: the iterator ended during the warm-up.
    """
    for _ in itertools.islice(iterator, warmup):
        pass
    each: list[float] = []
    begin = last = time.perf_counter()
    for _ in itertools.islice(iterator, num_iter):
        now = time.perf_counter()
        each.append(now - last)
        last = now
        if last - begin > max_time_seconds:
            break
    if not each:
        raise ValueError(f"nothing to time: there are no items after a warm-up of {warmup}")
    return (last - begin) / len(each), each


class _Numbers(torchdata.IterableDataset):
    """An endless stream of one small item, to time the transfer."""

    def __iter__(self) -> Iterator[int]:
        return itertools.repeat(0)


class DataLoaderBenchmark:
    """Benchmarks of the parts of a training loader, to find the slow one."""

    def __init__(
        self,
        dataset: list | torchdata.Dataset,
        *,
        mapper: Callable[[Any], Any],
        sampler: Sampler | None = None,
        total_batch_size: int,
        num_workers: int = 0,
        max_time_seconds: int = 90,
    ):
        """
        Args:
            dataset: list of dicts or indexable dataset.
            mapper: of the loader.
            sampler: by default TrainingSampler.
            total_batch_size: of all workers together.
            num_workers: number of worker processes.
            max_time_seconds: limit of each benchmark.
        """
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False, serialize=True)
        self.dataset = dataset
        self.mapper = mapper
        self.sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.per_gpu_batch_size = total_batch_size // comm.get_world_size()
        self.max_time_seconds = max_time_seconds

    def _benchmark(self, items: Iterable, num_iter: int, warmup: int, what: str) -> float:
        average, each = iter_benchmark(iter(items), num_iter, warmup, self.max_time_seconds)
        low, middle, high = np.percentile(each, [1, 50, 99])
        logger.info(
            "%s: %.1f iterations/s, %.1f ms each (1%%: %.1f, median: %.1f, 99%%: %.1f ms)",
            what,
            1 / average,
            average * 1000,
            low * 1000,
            middle * 1000,
            high * 1000,
        )
        return average

    def _loader(self, dataset: torchdata.Dataset, num_workers: int) -> Iterable:
        sampler = None if isinstance(dataset, torchdata.IterableDataset) else self.sampler
        return build_batch_data_loader(
            dataset, sampler, self.total_batch_size, num_workers=num_workers, seed=0
        )

    def benchmark_dataset(self, num_iter: int, warmup: int = 5) -> float:
        """Time the dataset without mapper; return seconds per item."""
        items = ToIterableDataset(self.dataset, self.sampler)
        return self._benchmark(items, num_iter, warmup, "Dataset alone")

    def benchmark_mapper(self, num_iter: int, warmup: int = 5) -> float:
        """Time dataset and mapper in this process; return seconds per sample."""
        items = map(self.mapper, ToIterableDataset(self.dataset, self.sampler))
        return self._benchmark(items, num_iter, warmup, "Single-process mapper")

    def benchmark_workers(self, num_iter: int, warmup: int = 10) -> list[float]:
        """Time the loader with no, one and all workers; return seconds per batch of each."""
        mapped = MapDataset(self.dataset, self.mapper)
        counts = sorted({0, 1, self.num_workers})
        return [
            self._benchmark(
                self._loader(mapped, count),
                num_iter,
                warmup,
                f"{count} workers, batch size {self.per_gpu_batch_size}",
            )
            for count in counts
        ]

    def benchmark_IPC(self, num_iter: int, warmup: int = 10) -> float:
        """Time the transfer of a batch from a worker process; return seconds per batch.

        The batches contain only numbers, so this excludes the time to create samples.
        """
        loader = self._loader(_Numbers(), max(self.num_workers, 1))
        return self._benchmark(loader, num_iter, warmup, "Transfer alone")

    def benchmark_distributed(self, num_iter: int, warmup: int = 10) -> float:
        """Time the whole loader on all ranks at once; return seconds per batch of the slowest."""
        mapped = MapDataset(self.dataset, self.mapper)
        comm.synchronize()
        mine = self._benchmark(
            self._loader(mapped, self.num_workers), num_iter, warmup, "Distributed loader"
        )
        slowest = max(comm.all_gather(mine))
        logger.info("Slowest of %s ranks: %.1f ms/batch", comm.get_world_size(), slowest * 1000)
        return slowest
