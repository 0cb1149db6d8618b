"""The training stream: which samples come in which order, as a function of seed and position.

Indices are drawn and grouped into batches before any image is read, and the k-th sample of the
stream is augmented with random numbers seeded by (seed, k). So it does not matter which process
makes a sample, and a stream can start anywhere without reading what lies before.
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

# So many replacements in a row mean that something else is wrong than single images.
_MAX_REPLACEMENTS = 1000


class SampleRef(NamedTuple):
    """A sample to be made."""

    index: int  # item of the dataset
    position: int  # its number k in the stream of all workers
    seed: int  # of the stream
    iteration: int = 0  # number of its batch since the training began


@contextlib.contextmanager
def seeded_rng(*seeds: int) -> Iterator[None]:
    """Inside, `random`, `np.random` and `torch` (CPU) are seeded by the numbers; then as before.

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
    """The batches of this worker, as lists of references to samples, from a position on.

    To iterate over it gives the batches that remain in this pass through the sampler, which for the
    training samplers is endless. torch's DataLoader takes it as its batch sampler.

    Attributes:
        seed: of the augmentation.
        batches_done: batches of this pass that count as used; whoever uses them counts them.
        samples_before: samples of this worker in earlier passes.
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
            sampler: this worker's indices.
            batch_size: of this worker.
            group_of: group of an index; batches are all of one group. None: no groups.
            drop_last: whether a last batch that is not full is dropped; with groups it always is.
            seed: non-negative; of the augmentation.
        """
        self.sampler = sampler
        self.batch_size = batch_size
        self.group_of = group_of
        self.drop_last = drop_last
        self.seed = seed
        self.batches_done = 0
        self.samples_before = 0

    def __len__(self) -> int:
        """Batches of one pass; a TypeError where it depends on the groups or the sampler has none.

        The training samplers are endless and so have no length.
        """
        if self.group_of is not None:
            raise TypeError("batches of one aspect-ratio group each cannot be counted in advance")
        return num_batches(len(self.sampler), self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[list[SampleRef]]:
        """Return the batches that remain in this pass. What lies before is drawn, but not read."""
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
        """Go to the beginning of the sampler; positions of samples go on from here."""
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
    """Batches that so many samples fill."""
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)


def _with_own_rng(sampler: Sampler, *seeds: int) -> Iterator[int]:
    """Iterate over a sampler of torch's kind, which draws from the process's generators.

    It gets random states of its own, so that its order depends on the seeds only and nothing else
    of the process depends on it.
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
    """The aspect-ratio group of every item of a dataset, from what is known without its image.

    That is "width" and "height" of its dict, else the head of its file. Only for a dataset that
    is not made of dicts and a mapper has the whole sample to be loaded once.
    """

    def __init__(self, dataset: torchdata.Dataset):
        """dataset: indexable; a MapDataset is looked into."""
        self._dataset = dataset._dataset if isinstance(dataset, MapDataset) else dataset
        self._groups = np.full(len(dataset), -1, dtype=np.int8)
        self._loads_samples = not isinstance(dataset, (MapDataset, DatasetFromList))
        if self._loads_samples:
            logger.warning(
                "Aspect-ratio grouping loads every sample of this dataset once for its size. "
                "Give the loader a list of dicts and a mapper to avoid it"
            )

    def __call__(self, index: int) -> int:
        """0 for images wider than high, else 1."""
        if self._groups[index] < 0:
            self._groups[index] = self._find(index)
        return int(self._groups[index])

    def _find(self, index: int) -> int:
        # Datasets that make whole samples may draw random numbers for them.
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
    """A sample or, once collated, a batch of them; or the reason why there is none."""

    value: Any  # of a batch, what the collate function made; None where there is nothing
    skipped: list[tuple[str, str]]  # (file, reason) of the images it replaces
    error: OSError | ValueError | None = None


class MappedSamples(torchdata.Dataset):
    """Makes samples of references, with the random numbers of their position."""

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
            on_bad_sample: "raise": an image that cannot be read is an error; "skip": another
                sample, which depends on the seed and the position only, takes its place.
            group_of: a replacement is of the same group.
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
        """Length of the dataset."""
        return len(self.dataset)

    def __getitem__(self, ref: SampleRef) -> Sample:
        """Make the sample, or another one where the mapper returns None or the image is bad.

        Raises:
            RuntimeError: the mapper has returned None for too many samples in a row.
        """
        skipped: list[tuple[str, str]] = []
        index = ref.index
        for attempt in range(_MAX_REPLACEMENTS):
            # The seeds of the first attempt are (seed, k) alone.
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
