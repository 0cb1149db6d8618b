"""Training loaders with a position, which can be stopped anywhere and resumed exactly."""

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
    """Collate the existing values, and pass on errors and skipped files."""
    for sample in samples:
        if sample.error is None:
            continue
        error = sample.error
        if torchdata.get_worker_info() is not None:
            # It must survive the transfer from a worker process, which drops its traceback.
            try:
                error = type(error)(str(error))
            except TypeError:
                kind = OSError if isinstance(error, OSError) else ValueError
                error = kind(f"{type(error).__name__}: {error}")
            error.worker_traceback = "".join(traceback.format_exception(sample.error))
        return Sample(None, [], error)
    skipped = [one for sample in samples for one in sample.skipped]
    values = [sample.value for sample in samples if sample.value is not None]
    return Sample(collate_fn(values) if values else None, skipped)


# Iterators with worker processes. They are closed before Python terminates its child processes by
# SIGTERM, because workers ignore that signal, which a scheduler may send during a step.
_RUNNING: "weakref.WeakSet[Iterator]" = weakref.WeakSet()


def _board(dataset: torchdata.Dataset, num_workers: int) -> WorkBoard | None:
    """Return the board on which the workers of a loader report their work; None without workers."""
    if num_workers == 0:
        return None
    base = dataset
    while isinstance(base, (MapDataset, _TolerantSamples)):
        base = base._dataset if isinstance(base, MapDataset) else base.dataset

    def name_of(index: int) -> str:
        # Indexing other datasets would load the item.
        item = base[index] if isinstance(base, (DatasetFromList, list)) else None
        name = item.get("file_name") if isinstance(item, dict) else None
        return f"item {index}" if name is None else str(name)

    return WorkBoard(name_of, num_workers)


def _running(
    start: Callable[[], Iterator], board: WorkBoard | None, keep_workers: bool = False
) -> Iterator:
    """Yield the batches of torch's iterator, created by `start`. Errors name the worker.

    Closing it ends the workers, unless they are kept for the next iterator.
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
    """End the worker processes of all loaders. Spawned processes call it, because they terminate
    their child processes before exit handlers run."""
    for batches in list(_RUNNING):
        batches.close()


def _start_worker(
    init: Callable[[int], None] | None, board: WorkBoard | None, worker_id: int
) -> None:
    """Start a worker: call its function first, which may set signal handlers, then release
    signals."""
    if board is not None:
        board.sign_on(worker_id)
    if init is not None:
        init(worker_id)
    release_signals()


class TrainingLoader:
    """Loader of the batches of a training stream, with worker processes.

    `iter(loader)` continues from the position, which counts delivered batches, not prefetched ones.
    `state_dict` and `load_state_dict` save and restore it. The number of worker processes changes
    nothing, and the random state of this process is not changed.

    Attributes:
        dataset: source of the samples.
        batch_size: of this rank.
        num_skipped: number of bad samples replaced since training began.
        skipped_files: reason why each file could not be used.
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
            total_batch_size: of all ranks together.
            collate_fn: makes a batch from a list of samples.
            on_bad_sample: "raise" or "skip", see `MappedSamples`.
            worker_init_fn: called with the worker's number when a worker process starts.
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
        """Return the batches of one pass; TypeError if the sampler has no length."""
        return len(self._stream)

    def __bool__(self) -> bool:
        return True  # also without a length

    def __iter__(self) -> Iterator[Any]:
        """Yield batches from the position on; after the end of a finite sampler, start over."""
        # Draw one number from the global generator, as torch's loader does for its workers, so that
        # a seeded program with its own loop samples the same anchors and proposals as with
        # detectron2. Do it now, not at the first batch, which is inside a step that has its own
        # seed.
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
        """Return the position, the seeds, and the settings that the position depends on."""
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
        """Load a position and its seeds; the next `iter(loader)` starts there.

        With another dataset, batch size or number of ranks the stream can't be the same: training
        then continues after the same number of samples, with a warning.
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
                "boxes or categories. The run continues with them, so its result will differ"
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
            "The position of the data loader was saved with a different %s. Training continues "
            "after %s samples, with other batches than before",
            ", ".join(changed),
            samples,
        )


class _TolerantSamples(torchdata.Dataset):
    """A mapped dataset that returns (file name, reason) for items that can't be loaded."""

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
    """A loader for inference whose errors name the worker and the image."""

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
            collate_fn: makes a batch from a list of samples.
            worker_init_fn: called with the worker's number when a worker process starts.
            num_workers: number of loader processes; 0 loads in this process.
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
        """Yield all batches in order. The worker processes end with the iterator."""
        return _running(super().__iter__, self._board)


class TolerantLoader(InferenceLoader):
    """A loader for inference that skips unreadable images.

    Each gives a warning, and their number is logged at the end: their objects count as missed.

    Attributes:
        skipped_files: reason why each file could not be used.
    """

    def __init__(self, dataset: MapDataset, *, collate_fn: Callable[[list], Any], **options: Any):
        """
        Args:
            dataset: indexable.
            collate_fn: makes a batch from a list of samples.
            options: see InferenceLoader.
        """
        self.skipped_files: dict[str, str] = {}
        super().__init__(
            _TolerantSamples(dataset), collate_fn=functools.partial(_collate, collate_fn), **options
        )

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches, except those whose images are all unreadable."""
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
    """Loader of batches of an iterable dataset, whose order only the dataset knows.

    It has a position too, but reaching it means loading everything before it.
    """

    def __init__(
        self,
        loader: torchdata.DataLoader,
        make_batches: Callable[[Any], Iterator],
        count_batches: Callable[[int], int] | None = None,
    ):
        """
        Args:
            loader: yields single samples.
            make_batches: makes batches from them.
            count_batches: number of batches from the number of samples; None if unknown.
        """
        self._count_batches = count_batches
        self.dataset = loader.dataset
        self._loader = loader
        self._make_batches = make_batches
        self._batches = 0

    def __len__(self) -> int:
        """Return the batches of one pass; TypeError if the dataset has no length."""
        if self._count_batches is None:
            raise TypeError("batches of one aspect-ratio group each cannot be counted in advance")
        return self._count_batches(len(self.dataset))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        """Yield batches; after resuming, first load and drop those before the position."""
        delivered = self._batches
        if delivered:
            logger.warning(
                "The dataset is iterable only: %s batches are loaded and dropped to reach the "
                "position where training continues",
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
        """Load a position."""
        self._batches = state_dict["batches"]
