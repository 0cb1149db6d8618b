"""The order of images: endless random streams for training, shares of a list for testing.

The training samplers make one global stream from a seed that all workers share; a worker takes
every world_size-th index of it, starting at its rank. So the images of a step do not depend on the
number of workers that share them.
"""

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch.utils.data.sampler import Sampler

from d2lite.utils import comm

logger = logging.getLogger(__name__)


class _SeededSampler(Sampler):
    """An endless stream of indices that is a function of seeds.

    A loader saves the seeds together with its position, so that a resumed run continues the same
    stream even if the seed was drawn at random.
    """

    _seed: int
    _rank: int
    _world_size: int

    def _know_workers(self) -> None:
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def seeds(self) -> dict[str, int]:
        """Return everything that the stream depends on, except for the data."""
        return {"seed": self._seed}

    def use_seeds(self, seeds: dict[str, int]) -> None:
        """Switch to the stream of another sampler, given the result of its `seeds()`."""
        self._seed = seeds["seed"]

    def __iter__(self) -> Iterator[int]:
        """Return this worker's share of the stream, from its beginning."""
        return itertools.islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        """Yield the global stream."""
        raise NotImplementedError


def _shared_seed(seed: int | None) -> int:
    return comm.shared_random_seed() if seed is None else int(seed)


class TrainingSampler(_SeededSampler):
    """One random permutation of the dataset after another."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        """
        Args:
            size: number of items of the dataset.
            shuffle: False keeps their order.
            seed: the same for all workers; None draws one and shares it.
        """
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler: size must be an int, not {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"TrainingSampler: size is {size}; the dataset is empty")
        self._size = size
        self._shuffle = shuffle
        self._seed = _shared_seed(seed)
        self._know_workers()

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """One permutation after another of a random subset, chosen once."""

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        """
        Args:
            size: number of items of the dataset.
            subset_ratio: share of the items in the subset, in (0, 1].
            shuffle: False keeps the order of the subset.
            seed_shuffle: seed of the order, the same for all workers; None draws and shares one.
            seed_subset: seed of the choice of the subset, likewise.
        """
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        if not 0.0 < subset_ratio <= 1.0:
            raise ValueError(f"subset_ratio is {subset_ratio}; it must be in (0, 1]")
        self._size_subset = int(size * subset_ratio)
        if self._size_subset == 0:
            raise ValueError(f"a share of {subset_ratio} of {size} items is empty")
        self._seed_subset = _shared_seed(seed_subset)
        logger.info("Training on a random %s of %s items", self._size_subset, size)

    def seeds(self) -> dict[str, int]:
        """Return everything that the stream depends on, except for the data."""
        return {"seed": self._seed, "seed_subset": self._seed_subset}

    def use_seeds(self, seeds: dict[str, int]) -> None:
        """Switch to the stream of another sampler, given the result of its `seeds()`."""
        self._seed, self._seed_subset = seeds["seed"], seeds["seed_subset"]

    def _infinite_indices(self) -> Iterator[int]:
        chooser = torch.Generator().manual_seed(self._seed_subset)
        subset = torch.randperm(self._size, generator=chooser)[: self._size_subset]
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                order = torch.randperm(self._size_subset, generator=generator)
                yield from subset[order].tolist()
            else:
                yield from subset.tolist()


class RepeatFactorTrainingSampler(_SeededSampler):
    """A training stream in which images appear more often the rarer their content is.

    "LVIS: A Dataset for Large Vocabulary Instance Segmentation", appendix B.2.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ):
        """
        Args:
            repeat_factors: (N,) mean number of times each item appears in an epoch. Fractions are
                rounded up or down at random, anew in every epoch.
            shuffle: False keeps the order.
            seed: the same for all workers; None draws one and shares it.
        """
        self._shuffle = shuffle
        self._seed = _shared_seed(seed)
        self._know_workers()
        repeat_factors = torch.as_tensor(repeat_factors, dtype=torch.float32)
        if len(repeat_factors) == 0:
            raise ValueError("repeat_factors are empty: the dataset has no items")
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Return (N,) factors: for each image the largest max(1, sqrt(t / f)) of its categories.

        Args:
            dataset_dicts: with annotations; f is the share of images that have a category.
            repeat_thresh: t, below which a category counts as rare.
            sqrt: False leaves out the square root.
        """
        categories = [
            {anno["category_id"] for anno in one.get("annotations", ())} for one in dataset_dicts
        ]
        images_with = Counter(category for in_image in categories for category in in_image)
        factor = {}
        for category, count in images_with.items():
            rarity = repeat_thresh / (count / len(dataset_dicts))
            factor[category] = max(1.0, math.sqrt(rarity) if sqrt else rarity)
        per_image = [
            max((factor[category] for category in in_image), default=1.0) for in_image in categories
        ]
        return torch.tensor(per_image, dtype=torch.float32)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            epoch = self._get_epoch_indices(generator)
            if self._shuffle:
                epoch = epoch[torch.randperm(len(epoch), generator=generator)]
            yield from epoch.tolist()

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        draws = torch.rand(len(self._frac_part), generator=generator)
        repeats = self._int_part + (draws < self._frac_part).float()
        return torch.repeat_interleave(torch.arange(len(repeats)), repeats.long())


class InferenceSampler(Sampler):
    """Each index exactly once: workers take successive blocks whose sizes differ by at most one."""

    def __init__(self, size: int):
        """size: number of items of the dataset, above 0."""
        if size <= 0:
            raise ValueError(f"InferenceSampler: size is {size}; the dataset is empty")
        self._size = size
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._local_indices = self._get_local_indices(size, self._world_size, self._rank)

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        share, left = divmod(total_size, world_size)
        begin = share * rank + min(rank, left)
        return range(begin, begin + share + (rank < left))

    def __iter__(self) -> Iterator[int]:
        """Yield this worker's indices."""
        yield from self._local_indices

    def __len__(self) -> int:
        """Return the number of this worker's indices."""
        return len(self._local_indices)
