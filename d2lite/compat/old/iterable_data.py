"""An indexable dataset as an iterable one; d2lite's loaders take indexable ones directly."""

import itertools
from collections.abc import Iterable, Iterator

import torch.utils.data as data
from torch.utils.data.sampler import Sampler

from d2lite.utils.errors import ArgumentError


class ToIterableDataset(data.IterableDataset):
    """An indexable dataset and a sampler, as an iterable dataset."""

    def __init__(
        self,
        dataset: data.Dataset,
        sampler: Sampler,
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ):
        """
        Args:
            dataset: indexable.
            sampler: yields the indices, in the same order in all loader workers.
            shard_sampler: divide the indices among the loader workers; False if the sampler does
                so itself.
            shard_chunk_size: how many consecutive indices go to one worker; use the batch size, so
                that batches keep the sampler's order.
        """
        if isinstance(dataset, data.IterableDataset):
            raise ArgumentError("ToIterableDataset: the dataset is already iterable")
        if not isinstance(sampler, Sampler):
            raise ArgumentError(f"ToIterableDataset needs a torch Sampler, not {sampler!r}")
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __iter__(self) -> Iterator:
        """Yield this loader worker's items in the order of the sampler."""
        indices = self.sampler
        if self.shard_sampler:
            indices = _share_of_worker(indices, self.shard_chunk_size)
        return (self.dataset[idx] for idx in indices)

    def __len__(self) -> int:
        """Return the length of the sampler."""
        return len(self.sampler)


def _share_of_worker(indices: Iterable[int], chunk_size: int) -> Iterator[int]:
    """Yield this worker's chunk of each round of one chunk per worker."""
    worker = data.get_worker_info()
    if worker is None or worker.num_workers == 1:
        return iter(indices)
    numbered = zip(itertools.count(), indices)
    return (
        index
        for number, index in numbered
        if number // chunk_size % worker.num_workers == worker.id
    )
