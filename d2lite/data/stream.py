"""The training stream: which samples come in which order, as a function of seed and position.

Indices are drawn and grouped into batches before any image is read, and the augmentation of the
k-th sample is seeded by (seed, k). So it does not matter which process loads a sample, and a stream
can start anywhere without reading the samples before.
"""

import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data as torchdata
from torch.utils.data.sampler import Sampler

from d2lite.data.common import DatasetFromList, MapDataset, aspect_group, batches_by_group
from d2lite.data.image_io import read_image_size
from d2lite.data.worker_deaths import at_work_on, forget_failure
from d2lite.utils import comm
from d2lite.utils.random_state import RandomState

logger = logging.getLogger(__name__)

# This many replacements in a row mean that more is wrong than single images.
_MAX_REPLACEMENTS = 1000


class SampleRef(NamedTuple):
    """Reference to a sample to be loaded."""

    index: int  # item of the dataset
    position: int  # its number k in the stream of all ranks
    seed: int  # of the stream
    iteration: int = 0  # number of its batch since the training began


@contextlib.contextmanager
def seeded_rng(*seeds: int) -> Iterator[None]:
    """Seed `random`, `np.random` and `torch` (CPU) inside the block, and restore them afterward.

    Args:
        seeds: non-negative integers, such as the seed of a stream and a position in it.
    """
    before = RandomState.now()
    words = np.random.SeedSequence(seeds).generate_state(6)
    random.seed(int.from_bytes(words[:2].tobytes(), "little"))
    np.random.seed(words[2:4])
    # Not torch.manual_seed, which would change the generators of the GPUs as well.
    torch.default_generator.manual_seed(int.from_bytes(words[4:].tobytes(), "little"))
    try:
        yield
    finally:
        before.restore()


class TrainingStream:
    """The batches of this rank from a position on, as lists of references to samples.

    Iterating yields the remaining batches of this pass through the sampler, which is endless for
    training samplers. It is the batch sampler of torch's DataLoader.

    Attributes:
        seed: of the augmentation.
        batches_done: number of used batches of this pass; the consumer counts them.
        samples_before: number of samples of this rank in earlier passes.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        group_of: Callable[[int], int] | None = None,
        drop_last: bool = True,
        *,
        seed: int = 0,
    ):
        """
        Args:
            sampler: yields the indices of this rank.
            batch_size: of this rank.
            group_of: returns the group of an index; a batch has items of one group. None: no
                groups.
            drop_last: whether to drop the last batch if it is not full; always true with groups.
            seed: seed of the augmentation; not negative.
        """
        self.sampler = sampler
        self.batch_size = batch_size
        self.group_of = group_of
        self.drop_last = drop_last
        self.seed = seed
        self.batches_done = 0
        self.samples_before = 0

    def __len__(self) -> int:
        """Return the batches of one pass; TypeError with groups, or if the sampler has no length.

        Training samplers are endless and have no length.
        """
        if self.group_of is not None:
            raise TypeError("batches of one aspect-ratio group each cannot be counted in advance")
        return num_batches(len(self.sampler), self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[list[SampleRef]]:
        """Yield the remaining batches of this pass. Earlier indices are drawn, but not loaded."""
        if self.group_of is None:
            batches = consecutive_batches(self._refs(), self.batch_size, self.drop_last)
        else:
            group_of = self.group_of
            batches = batches_by_group(
                self._refs(), lambda ref: group_of(ref.index), self.batch_size
            )
        earlier = self.samples_before // self.batch_size
        remaining = itertools.islice(batches, self.batches_done, None)
        return (
            [ref._replace(iteration=number) for ref in batch]
            for number, batch in enumerate(remaining, start=earlier + self.batches_done)
        )

    def end_pass(self) -> None:
        """Return to the beginning of the sampler; positions of samples keep counting."""
        self.samples_before += self.batches_done * self.batch_size
        self.batches_done = 0

    def _refs(self) -> Iterator[SampleRef]:
        rank, world_size = comm.get_rank(), comm.get_world_size()
        indices = iter(self.sampler)
        if not hasattr(self.sampler, "use_seeds"):
            indices = _with_own_rng(self.sampler, self.seed, self.samples_before)
        for drawn, index in enumerate(indices, start=self.samples_before):
            yield SampleRef(int(index), drawn * world_size + rank, self.seed)


def consecutive_batches(items: Iterator, batch_size: int, drop_last: bool) -> Iterator[list]:
    """Yield lists of `batch_size` items in their order, without a last one that is not full if
    `drop_last`."""
    while batch := list(itertools.islice(items, batch_size)):
        if drop_last and len(batch) < batch_size:
            return
        yield batch


def num_batches(num_samples: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches of `num_samples` samples."""
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)


def _with_own_rng(sampler: Sampler, *seeds: int) -> Iterator[int]:
    """Iterate over a torch sampler that draws from the global random generators.

    It gets its own random states, so that its order depends only on the seeds, and nothing else in
    the process depends on it.
    """
    with seeded_rng(*seeds):
        indices = iter(sampler)
        own = RandomState.now()
    while True:
        outside = RandomState.now()
        own.restore()
        try:
            index = next(indices, None)
            own = RandomState.now()
        finally:
            outside.restore()
        if index is None:
            return
        yield index


class AspectGroups:
    """Lookup of the aspect-ratio groups of a dataset's items without decoding their images.

    It uses "width" and "height" of the dict, or else the header of the file. Only if the dataset
    does not consist of dicts and a mapper is each whole sample loaded once.
    """

    def __init__(self, dataset: torchdata.Dataset):
        """dataset: indexable; a MapDataset is unwrapped."""
        self._dataset = dataset._dataset if isinstance(dataset, MapDataset) else dataset
        self._groups = np.full(len(dataset), -1, dtype=np.int8)
        self._loads_samples = not isinstance(dataset, (MapDataset, DatasetFromList))
        if self._loads_samples:
            logger.warning(
                "Aspect-ratio grouping loads every sample of this dataset once for its size. "
                "Give the loader a list of dicts and a mapper to avoid it"
            )

    def __call__(self, index: int) -> int:
        """Return 0 for images wider than high, else 1."""
        if self._groups[index] < 0:
            self._groups[index] = self._find(index)
        return int(self._groups[index])

    def _find(self, index: int) -> int:
        # Datasets that return whole samples may draw random numbers.
        with seeded_rng(index) if self._loads_samples else contextlib.nullcontext():
            item = self._dataset[index]
        if "width" in item and "height" in item:
            return aspect_group(item["width"], item["height"])
        try:
            height, width = read_image_size(item["file_name"])
        except OSError:
            return 1  # the mapper will report this image when its turn comes
        return aspect_group(width, height)


class Sample(NamedTuple):
    """A sample or, after collating, a batch; or an error in its place."""

    value: Any  # of a batch, the output of the collate function; None if there is nothing
    skipped: list[tuple[str, str]]  # (file, reason) of the images it replaces
    error: OSError | ValueError | None = None


class MappedSamples(torchdata.Dataset):
    """Dataset of samples, indexed by references, with random numbers seeded by their position."""

    def __init__(
        self,
        dataset: torchdata.Dataset,
        *,
        on_bad_sample: str = "raise",
        group_of: Callable[[int], int] | None = None,
    ):
        """
        Args:
            dataset: indexable; usually a MapDataset.
            on_bad_sample: "raise" raises an error for an unreadable image; "skip" replaces it by
                another sample, which depends only on the seed and the position.
            group_of: returns the group of an index; a replacement has the same group.
        """
        if on_bad_sample not in ("raise", "skip"):
            raise ValueError(
                f"DATALOADER.ON_BAD_SAMPLE is {on_bad_sample!r}; use 'raise' or 'skip'"
            )
        self.dataset = dataset
        self._is_mapped = isinstance(dataset, MapDataset)
        self._skips = on_bad_sample == "skip"
        self._group_of = group_of

    def __len__(self) -> int:
        """Return the length of the dataset."""
        return len(self.dataset)

    def __getitem__(self, ref: SampleRef) -> Sample:
        """Load the sample, or another one if the mapper returns None or the image is bad.

        Raises:
            RuntimeError: the mapper returned None for too many samples in a row.
        """
        skipped: list[tuple[str, str]] = []
        index = ref.index
        for attempt in range(_MAX_REPLACEMENTS):
            # The first attempt is seeded by (seed, k) alone.
            seeds = (ref.seed, ref.position, attempt)[: 3 if attempt else 2]
            try:
                with seeded_rng(*seeds):
                    value = self._make(index, ref.iteration)
            except (OSError, ValueError) as error:
                if not self._skips:
                    return Sample(None, [], error)
                skipped.append((self.name_of(index), f"{type(error).__name__}: {error}"))
                forget_failure()
            else:
                if value is not None:
                    return Sample(value, skipped)
            # Another image of the same group, if a hundred draws find one.
            rng = np.random.default_rng((ref.seed, ref.position, attempt))
            candidates = rng.integers(len(self), size=100).tolist()
            index = candidates[0]
            if self._group_of is not None:
                group = self._group_of(ref.index)
                index = next((i for i in candidates if self._group_of(i) == group), index)
        failure = f"{_MAX_REPLACEMENTS} samples in a row could not be made"
        if skipped:
            error = ValueError(f"{failure}, the last because of {skipped[-1][1]}")
            return Sample(None, [], error)
        raise RuntimeError(f"{failure}: the mapper returned None")

    def _make(self, index: int, iteration: int) -> Any:
        with at_work_on(index):
            if self._is_mapped:
                return self.dataset.map_item(index, iteration)
            return self.dataset[index]

    def name_of(self, index: int) -> str:
        """Return the file of an item, for messages."""
        item = self.dataset._dataset[index] if self._is_mapped else None
        return str(item.get("file_name", index)) if isinstance(item, dict) else f"item {index}"
