"""A batch sampler of detectron2; d2lite's loaders group samples in `AspectGroups` instead."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data.sampler import BatchSampler, Sampler

from d2lite.data.common import batches_by_group


class GroupedBatchSampler(BatchSampler):
    """Batch sampler in which all indices of a batch belong to one group.

    It keeps the order of the sampler as far as possible. It is meant for endless samplers: with a
    finite one, incomplete groups may be left over, so it has no length.
    """

    def __init__(self, sampler: Sampler, group_ids, batch_size: int):
        """
        Args:
            sampler: yields indices.
            group_ids: sequence of ints: the group of every index.
            batch_size: number of items in a batch.
        """
        if not isinstance(sampler, Sampler):
            raise ValueError(f"GroupedBatchSampler needs a torch Sampler, not {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        assert self.group_ids.ndim == 1, f"group_ids has {self.group_ids.ndim} dimensions"
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices."""
        return batches_by_group(self.sampler, lambda i: int(self.group_ids[i]), self.batch_size)

    def __len__(self) -> int:
        """Raise NotImplementedError: the length is unknown."""
        raise NotImplementedError("the number of full batches depends on the order of the items")
