"""Training loaders that know their position: they can be stopped anywhere and go on exactly."""

import atexit
import contextlib
import functools
import itertools
import logging
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.data as torchdata

from d2lite.data.common import DatasetFromList, MapDataset
from d2lite.data.stream import MappedSamples, Sample, TrainingStream
from d2lite.data.worker_deaths import (
    WorkBoard,
    error_in_worker,
    forget_failure,
    telling_worker_deaths,
)
from d2lite.utils import comm
from d2lite.utils.serialize import PicklableWrapper
from d2lite.utils.stop_signals import release_signals, signals_held

logger = logging.getLogger(__name__)


def _collate(collate_fn: Callable[[list], Any], samples: list[Sample]) -> Sample:
    """Collate the values that there are, and pass on what went wrong."""
    for sample in samples:
        if sample.error is not None:
            return Sample(None, [], _portable(sample.error))
    skipped = [one for sample in samples for one in sample.skipped]
    values = [sample.value for sample in samples if sample.value is not None]
    return Sample(collate_fn(values) if values else None, skipped)


def _portable(error: OSError | ValueError) -> OSError | ValueError:
    """Return an error that survives the way from a worker: its last line as message, the rest as
    cause."""
    if torchdata.get_worker_info() is None:
        return error
    kind = type(error)
    try:
        portable = kind(str(error))
    except TypeError:
        kind = OSError if isinstance(error, OSError) else ValueError
        portable = kind(f"{type(error).__name__}: {error}")
    portable.worker_traceback = "".join(traceback.format_exception(error))
    return portable


# Iterators with worker processes. They are closed before Python ends its child processes, which it
# does by a SIGTERM: workers take that for a scheduler's, and stay to finish the step.
_RUNNING: "weakref.WeakSet[Iterator]" = weakref.WeakSet()


def _board(dataset: torchdata.Dataset, num_workers: int) -> WorkBoard | None:
    """Return what the workers of a loader write down; None where it has no workers."""
    if num_workers == 0:
        return None
    base = dataset
    while isinstance(base, (MapDataset, _TolerantSamples)):
        base = base._dataset if isinstance(base, MapDataset) else base.dataset

    def name_of(index: int) -> str:
        # Items of other datasets are made when they are asked for.
        item = base[index] if isinstance(base, (DatasetFromList, list)) else None
        name = item.get("file_name") if isinstance(item, dict) else None
        return f"item {index}" if name is None else str(name)

    return WorkBoard(name_of, num_workers)


def _running(
    start: Callable[[], Iterator], board: WorkBoard | None, keep_workers: bool = False
) -> Iterator:
    """Return the batches of torch's iterator, which `start` makes. Errors tell of the worker.

    It ends the workers when it is closed, unless they are kept for the next iterator.
    """
    with signals_held(), board.starting() if board is not None else contextlib.nullcontext():
        batches = start()

    def deliver() -> Iterator:
        try:
            with telling_worker_deaths():
                yield from batches
        except Exception as error:
            told = error_in_worker(error, board)
            if board is not None and not keep_workers:
                board.end_workers(batches)
            if told is None:
                raise
            raise told from told.__cause__

    delivering = deliver()
    _RUNNING.add(delivering)
    return delivering


@atexit.register
def close_running_loaders() -> None:
    """End the worker processes of all loaders. A spawned process calls it, since it ends its own
    child processes before the functions for its exit are called."""
    for batches in list(_RUNNING):
        batches.close()


def _start_worker(
    init: Callable[[int], None] | None, board: WorkBoard | None, worker_id: int
) -> None:
    """Start a worker: its own function first, which may handle signals, then the signals."""
    if board is not None:
        board.sign_on(worker_id)
    if init is not None:
        init(worker_id)
    release_signals()


class TrainingLoader:
    """Batches of a training stream, made by worker processes.

    `iter(loader)` goes on from the position, which counts the batches that were delivered, not
    those prefetched. `state_dict` and `load_state_dict` keep and restore it. The number of worker
    processes changes nothing, and the random state of this process stays untouched.

    Attributes:
        dataset: what the samples come from.
        batch_size: of this worker.
        num_skipped: bad samples that were replaced since the training began.
        skipped_files: by file why it could not be used.
    """

    def __init__(
        self,
        dataset: torchdata.Dataset,
        stream: TrainingStream,
        *,
        total_batch_size: int,
        collate_fn: Callable[[list], Any],
        on_bad_sample: str = "raise",
        worker_init_fn: Callable[[int], None] | None = None,
        **loader_options: Any,
    ):
        """
        Args:
            dataset: indexable; usually a MapDataset.
            stream: order, batches and position.
            total_batch_size: of all workers together.
            collate_fn: makes a batch of a list of samples.
            on_bad_sample: "raise" or "skip", see `MappedSamples`.
            worker_init_fn: called in every worker process, with its number, when it starts.
            loader_options: for torch's DataLoader: num_workers, prefetch_factor, pin_memory, ...
        """
        self.dataset = dataset
        self.batch_size = stream.batch_size
        self.num_skipped = 0
        self.skipped_files: dict[str, str] = {}
        self._stream = stream
        self._total_batch_size = total_batch_size
        self._board = _board(dataset, loader_options.get("num_workers", 0))
        self._loader = torchdata.DataLoader(
            MappedSamples(dataset, on_bad_sample=on_bad_sample, group_of=stream.group_of),
            batch_sampler=stream,
            collate_fn=functools.partial(_collate, PicklableWrapper(collate_fn)),
            # Workers are seeded by the run's seed, whatever the process's own generator gives.
            generator=torch.Generator().manual_seed(stream.seed),
            worker_init_fn=functools.partial(_start_worker, worker_init_fn, self._board),
            **loader_options,
        )

    def __len__(self) -> int:
        """Batches of one pass through the sampler; a TypeError where that has no length."""
        return len(self._stream)

    def __bool__(self) -> bool:
        return True  # of a loader without a length, too

    def __iter__(self) -> Iterator[Any]:
        """Batches from the position on; after the end of a finite sampler, from its beginning."""
        # One number of the process's generator, as torch's loader takes for its workers: so a
        # program of its own, under a seed, samples anchors and proposals as with detectron2. Now,
        # not with the first batch: a trainer seeds its steps, and this is of none.
        torch.empty((), dtype=torch.int64).random_()
        batches = self._deliver()
        _RUNNING.add(batches)
        return batches

    def _deliver(self) -> Iterator[Any]:
        delivered = self._stream.batches_done
        keep_workers = self._loader.persistent_workers
        batches = _running(self._loader.__iter__, self._board, keep_workers)
        with contextlib.closing(batches):
            for batch in batches:
                if batch.error is not None:
                    text = getattr(batch.error, "worker_traceback", None)
                    cause = f"in a worker of the data loader:\n{text}"
                    raise batch.error from None if text is None else RuntimeError(cause)
                self._record(batch.skipped)
                delivered += 1
                self._stream.batches_done = delivered
                yield batch.value
        self._stream.end_pass()

    def _record(self, skipped: list[tuple[str, str]]) -> None:
        self.num_skipped += len(skipped)
        for file_name, reason in skipped:
            if file_name not in self.skipped_files:
                logger.warning("Skipped a sample that could not be made: %s", reason)
                self.skipped_files[file_name] = reason

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the seeds, and by what the position was counted."""
        return {
            "batches": self._stream.batches_done,
            "samples_before": self._stream.samples_before,
            "seed": self._stream.seed,
            "sampler": self._sampler_seeds(),
            "num_skipped": self.num_skipped,
            "dataset_size": len(self.dataset),
            "dataset_fingerprint": self._fingerprint,
            "total_batch_size": self._total_batch_size,
            "world_size": comm.get_world_size(),
        }

    @functools.cached_property
    def _fingerprint(self) -> int | None:
        return self.dataset.fingerprint() if isinstance(self.dataset, MapDataset) else None

    def _sampler_seeds(self) -> dict[str, int]:
        sampler = self._stream.sampler
        return sampler.seeds() if hasattr(sampler, "use_seeds") else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a position and its seeds; the next `iter(loader)` starts there.

        With another dataset, batch size or number of workers the stream cannot be the same: a
        warning tells so, and training goes on after the same number of samples.
        """
        stream = self._stream
        stream.seed = state_dict["seed"]
        stream.batches_done = state_dict["batches"]
        stream.samples_before = state_dict["samples_before"]
        self.num_skipped = state_dict["num_skipped"]
        if self._sampler_seeds().keys() == state_dict["sampler"].keys() != set():
            stream.sampler.use_seeds(state_dict["sampler"])
        saved_print, own_print = state_dict.get("dataset_fingerprint"), self._fingerprint
        if None not in (saved_print, own_print) and saved_print != own_print:
            logger.warning(
                "The training data have changed since the checkpoint was saved: other images, "
                "boxes or categories. The run goes on with them, and ends otherwise than before"
            )
        facts = {
            "dataset_size": "dataset size",
            "total_batch_size": "total batch size",
            "world_size": "number of workers",
        }
        now = self.state_dict()
        changed = [
            f"{words} ({state_dict[key]}, now {now[key]})"
            for key, words in facts.items()
            if state_dict[key] != now[key]
        ]
        if not changed:
            return
        samples = stream.batches_done * state_dict["total_batch_size"]
        stream.batches_done = samples // self._total_batch_size
        stream.samples_before = (
            stream.samples_before * state_dict["world_size"] // comm.get_world_size()
        )
        logger.warning(
            "The saved position of the data loader was made with another %s. Training goes "
            "on after %s samples, with other batches than before",
            ", ".join(changed),
            samples,
        )


class _TolerantSamples(torchdata.Dataset):
    """A mapped dataset whose items are (file name, reason) where they cannot be made."""

    def __init__(self, dataset: MapDataset):
        self._samples = MappedSamples(dataset)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        try:
            return Sample(self.dataset[index], [])
        except (OSError, ValueError) as error:
            forget_failure()
            return Sample(
                None, [(self._samples.name_of(index), f"{type(error).__name__}: {error}")]
            )


class InferenceLoader(torchdata.DataLoader):
    """A loader for inference, whose errors tell which worker failed, and on which image."""

    def __init__(
        self,
        dataset: torchdata.Dataset,
        *,
        collate_fn: Callable[[list], Any],
        worker_init_fn: Callable[[int], None] | None = None,
        num_workers: int = 0,
        **options: Any,
    ):
        """
        Args:
            dataset: indexable or iterable.
            collate_fn: makes a batch of a list of samples.
            worker_init_fn: called in every worker process, with its number, when it starts.
            num_workers: processes that make samples; 0 makes them in this one.
            options: for torch's DataLoader.
        """
        self._board = _board(dataset, num_workers)
        super().__init__(
            dataset,
            collate_fn=collate_fn,
            worker_init_fn=functools.partial(_start_worker, worker_init_fn, self._board),
            num_workers=num_workers,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        """All batches, in their order. The worker processes end with the iterator."""
        return _running(super().__iter__, self._board)


class TolerantLoader(InferenceLoader):
    """A loader for inference that leaves out images which cannot be read.

    Each is a warning, and their number is told at the end: their objects count as missed.

    Attributes:
        skipped_files: by file why it could not be used.
    """

    def __init__(self, dataset: MapDataset, *, collate_fn: Callable[[list], Any], **options: Any):
        """
        Args:
            dataset: indexable.
            collate_fn: makes a batch of a list of samples.
            options: as of InferenceLoader.
        """
        self.skipped_files: dict[str, str] = {}
        super().__init__(
            _TolerantSamples(dataset), collate_fn=functools.partial(_collate, collate_fn), **options
        )

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches, without those of which no image can be read."""
        num_skipped = 0
        for batch in super().__iter__():
            for file_name, reason in batch.skipped:
                num_skipped += 1
                if file_name not in self.skipped_files:
                    logger.warning("Skipped an image that could not be read: %s", reason)
                    self.skipped_files[file_name] = reason
            if batch.value is not None:
                yield batch.value
        if num_skipped:
            logger.warning(
                "%s images of the test set were skipped, as DATALOADER.ON_BAD_SAMPLE says; "
                "the evaluation counts their objects as missed",
                num_skipped,
            )


class IterableTrainingLoader:
    """Batches of an iterable dataset, which only the dataset itself can order.

    It has a position too, but getting there means to load everything that lies before.
    """

    def __init__(
        self,
        loader: torchdata.DataLoader,
        make_batches: Callable[[Any], Iterator],
        count_batches: Callable[[int], int] | None = None,
    ):
        """
        Args:
            loader: gives single samples.
            make_batches: takes them and gives batches.
            count_batches: from a number of samples to the number of batches; None: not known.
        """
        self._count_batches = count_batches
        self.dataset = loader.dataset
        self._loader = loader
        self._make_batches = make_batches
        self._batches = 0

    def __len__(self) -> int:
        """Batches of one pass; a TypeError where the dataset has no length."""
        if self._count_batches is None:
            raise TypeError("batches of one aspect-ratio group each cannot be counted in advance")
        return self._count_batches(len(self.dataset))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        """Batches; the first time after a resume, those of before are loaded and dropped."""
        delivered = self._batches
        if delivered:
            logger.warning(
                "The dataset is iterable only: %s batches are loaded and dropped to get to "
                "the position where training goes on",
                delivered,
            )
        for batch in itertools.islice(self._make_batches(self._loader), delivered, None):
            delivered += 1
            self._batches = delivered
            yield batch
        self._batches = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a position."""
        self._batches = state_dict["batches"]
