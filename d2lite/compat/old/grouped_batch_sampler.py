"""A batch sampler of detectron2; our loaders group the references of their stream."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data.sampler import BatchSampler, Sampler

from d2lite.data.common import batches_by_group


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
