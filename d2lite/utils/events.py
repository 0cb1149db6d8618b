"""Event writers, which write the values in the EventStorage to the terminal and to files.

Also re-exports the storage itself (`event_storage.py`).
"""

import contextlib
import datetime
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TextIO

import torch
from tqdm import tqdm

from d2lite.utils.event_files import drop_event_records_from, drop_json_lines_from
from d2lite.utils.event_storage import (
    EventStorage,
    get_event_storage,
    has_event_storage as has_event_storage,
    is_time_to_draw as is_time_to_draw,
    log_histogram as log_histogram,
    log_image as log_image,
    log_scalar as log_scalar,
)
from d2lite.utils.writing import WriteError, append

logger = logging.getLogger(__name__)


class EventWriter:
    """Base class of event writers.

    Attributes:
        every_iteration: whether it is called after every iteration, regardless of the period.
    """

    every_iteration = False

    def write(self) -> None:
        """Write the new values in `get_event_storage()`."""
        raise NotImplementedError

    def write_last_again(self) -> None:
        """Drop what the previous run wrote for the iteration before the first one.

        Called when a run is resumed, before any write; that iteration is then written again if it
        is due. By default nothing is dropped.
        """

    def close(self) -> None:
        """Finish; called once, after training."""


class NewScalars:
    """Selection of the scalars that a writer has not written yet.

    A resumed run starts with the values stored in the checkpoint; those up to the last iteration
    written by the previous run are not new.

    This is tracked per name, because hooks that run after the writer may put values for an
    iteration that has already been written, such as an evaluation after a custom training loop.
    """

    def __init__(self, window_size: int, last_written: int, by_name: dict[str, int] | None = None):
        """last_written: last written iteration, for all names except those in `by_name`."""
        self.window_size = window_size
        self._last_written = defaultdict(lambda: last_written, by_name or {})

    def take(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """Return iteration -> {name: smoothed value}, in order of iterations."""
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(
            self.window_size
        ).items():
            if iteration > self._last_written[name]:
                found[iteration][name] = value
                self._last_written[name] = iteration
        return {iteration: found[iteration] for iteration in sorted(found)}


class PatientWriter(EventWriter):
    """Base class of writers that keep training alive when a disk is full.

    Values that can't be written are kept and tried again at the next write, and the log reports the
    beginning and the end of the problem. If it persists until `close`, that raises an error.
    """

    _is_failing = False
    _last_too = False  # see `write_last_again`

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            if not self._is_failing:
                logger.error("%s. The values are kept, and tried again with the next write", error)
            self._is_failing = True
        else:
            if self._is_failing:
                logger.info("%s: the values that were kept are now written", type(self).__name__)
            self._is_failing = False


class JSONWriter(PatientWriter):
    """Writer of a JSON file with one line per iteration: {"iteration": 19, "loss": ...}.

    When a run is resumed, lines of iterations that will be repeated are dropped, so the file has
    every iteration once. Lines that can't be written are kept and tried again.
    """

    _last_write = -1  # the last written iteration; subclasses that override write() update it

    def __init__(self, json_file: str, window_size: int = 20):
        """json_file: path of the file. window_size: iterations over which medians are taken."""
        self._json_file = json_file
        self._window_size = window_size
        self._new: NewScalars | None = None
        self._lines: list[str] = []  # not written yet

    @cached_property
    def _file_handle(self) -> TextIO:
        # For subclasses that override write(); open until close().
        return open(self._json_file, "a", encoding="utf-8")

    def write(self) -> None:
        """Write one line for each iteration that has new scalars."""
        storage = get_event_storage()
        with self._trying():
            if self._new is None:
                self._new = self._go_on(storage)
            for iteration, scalars in self._new.take(storage).items():
                self._last_write = iteration
                line = json.dumps({**scalars, "iteration": iteration}, sort_keys=True)
                self._lines.append(line + "\n")
            self._append_lines()

    def _append_lines(self) -> None:
        append(self._json_file, "".join(self._lines).encode())
        self._lines.clear()

    def write_last_again(self) -> None:
        """Drop the line of the iteration before the first one, unless a subclass wrote the file."""
        if type(self).write is JSONWriter.write:
            self._last_too = True
            with self._trying():
                self._new = self._go_on(get_event_storage())

    def _go_on(self, storage: EventStorage) -> NewScalars:
        last_written = drop_json_lines_from(
            storage.start_iter, self._json_file, last_too=self._last_too
        )
        return NewScalars(self._window_size, last_written)

    def close(self) -> None:
        """Close the file.

        Raises:
            WriteError: there are lines that cannot be written.
        """
        if "_file_handle" in self.__dict__:  # it was used
            self._file_handle.close()
        if self._lines:
            self._append_lines()


class TensorboardXWriter(PatientWriter):
    """Writer of scalars, images and histograms for TensorBoard.

    When a run is resumed, records of iterations that will be repeated are dropped from the event
    files of the previous run, so viewers show every iteration once. Values that can't be written
    are kept and tried again.
    """

    _last_write = -1  # see JSONWriter

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any):
        """log_dir: folder of the event files. kwargs: for torch's SummaryWriter."""
        self._window_size = window_size
        self._log_dir = log_dir
        self._kwargs = kwargs
        self._new: NewScalars | None = None

    @cached_property
    def _writer(self) -> Any:
        from d2lite.utils.tensorboard_file import make_summary_writer  # takes seconds to import

        return make_summary_writer(self._log_dir, **self._kwargs)

    def write(self) -> None:
        """Write everything new, and clear the storage's images and histograms."""
        storage = get_event_storage()
        with self._trying():
            if self._new is None:
                self._new = self._go_on(storage)
            for iteration, scalars in self._new.take(storage).items():
                self._last_write = iteration
                for name, value in scalars.items():
                    self._writer.add_scalar(name, value, iteration)
            for name, image, iteration in storage._vis_data:
                self._writer.add_image(name, image, iteration)
            storage.clear_images()
            for histogram in storage._histograms:
                self._writer.add_histogram_raw(**histogram)
            storage.clear_histograms()
            self._writer.flush()

    def write_last_again(self) -> None:
        """Drop the scalars of the iteration before the first one."""
        self._last_too = True
        with self._trying():
            self._new = self._go_on(get_event_storage())

    def _go_on(self, storage: EventStorage) -> NewScalars:
        by_tag = drop_event_records_from(storage.start_iter, self._log_dir, last_too=self._last_too)
        return NewScalars(self._window_size, -1, by_tag)

    def close(self) -> None:
        """Close the event file.

        Raises:
            WriteError: there are records that cannot be written.
        """
        if "_writer" in self.__dict__:  # it was used
            self._writer.close()


class _Remaining:
    """Estimate of the remaining seconds of a run, from step times if there are any."""

    def __init__(self, max_iter: int):
        self.max_iter = max_iter
        self._last_seen: tuple[int, float] | None = None  # (iteration, clock)

    def seconds(self, storage: EventStorage) -> float | None:
        """Return the remaining seconds, or None if not known yet."""
        steps_left = self.max_iter - storage.iter - 1
        if "time" in storage.histories():
            return float(storage.history("time").median(1000)) * steps_left
        now = (storage.iter, time.perf_counter())
        before, self._last_seen = self._last_seen, now
        if before is None or now[0] <= before[0]:
            return None
        return (now[1] - before[1]) / (now[0] - before[0]) * steps_left


# Hooks log these when they are new.
_WITH_LINES_OF_THEIR_OWN = ("val_loss/", "epoch/")


class CommonMetricPrinter(EventWriter):
    """Writer that logs a line with time left, iteration, losses, timing, learning rate, memory."""

    # (iteration, clock) for subclasses that estimate the remaining time themselves.
    _last_write: tuple[int, float] | None = None

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        """max_iter: iterations of the run, for the remaining time; None: not shown."""
        self.logger = logging.getLogger("d2lite.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._remaining = None if max_iter is None else _Remaining(max_iter)

    def write(self) -> None:
        """Log one line about the current iteration; none once training is over."""
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            # Writers run once more after training, for the metrics of the last evaluation.
            return
        eta = self._get_eta(storage)
        # Medians over the window: losses, then scalars with "[metric]" in their names.
        scalars = "  ".join(
            f"{name}: {history.median(storage.count_samples(name, self._window_size)):.4g}"
            for part in ("loss", "[metric]")
            for name, history in storage.histories().items()
            if part in name and not name.startswith(_WITH_LINES_OF_THEIR_OWN)
        )
        self.logger.info(
            " %siter: %d  %s  %s%s%s",
            "" if eta is None else f"eta: {eta}  ",
            storage.iter,
            scalars,
            self._timing(storage),
            _describe_lr(storage),
            _describe_memory(),
        )

    def _get_eta(self, storage: EventStorage) -> str | None:
        """Return the remaining time as "0:12:34"; None if it is not known."""
        seconds = self._remaining.seconds(storage) if self._remaining else None
        if seconds is None:
            return None
        if "time" in storage.histories():
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return str(datetime.timedelta(seconds=int(seconds)))

    def _timing(self, storage: EventStorage) -> str:
        """Describe mean over the window and latest value of step and data seconds, if known."""
        text = ""
        for name in ("time", "data_time"):
            if name in storage.histories():
                history = storage.history(name)
                mean = history.avg(storage.count_samples(name, self._window_size))
                text += f"  {name}: {mean:.4f}  last_{name}: {history.latest():.4f}"
        return text + "  " if text else text


def _describe_lr(storage: EventStorage) -> str:
    if "lr" not in storage.histories():
        return " lr: N/A"
    return f" lr: {storage.history('lr').latest():.5g}"


def _describe_memory() -> str:
    """Describe the peak memory: of the GPU, or else of this process."""
    megabytes = peak_memory_mb()
    return "" if megabytes is None else f"  max_mem: {megabytes:.0f}M"


def peak_memory_mb() -> float | None:
    """Return the peak memory in MiB: allocated on the GPU, or else resident; None if unknown."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB on Linux


class ProgressBarWriter(EventWriter):
    """Progress bar for a terminal, with total loss, learning rate and memory.

    It is called at every iteration, but redraws at most a few times per second.
    """

    every_iteration = True

    def __init__(self, max_iter: int, window_size: int = 20, file: Any = None):
        """max_iter: iterations of the run. file: stream to draw on; stderr by default."""
        self._max_iter = max_iter
        self._window_size = window_size
        self._file = file
        self._bar: tqdm | None = None

    @staticmethod
    def suits(stream: Any = None) -> bool:
        """Return whether a stream (stderr by default) is a terminal that can redraw a line."""
        stream = sys.stderr if stream is None else stream
        return bool(getattr(stream, "isatty", lambda: False)()) and os.getenv("TERM") != "dumb"

    def write(self) -> None:
        """Update the bar to the current iteration."""
        storage = get_event_storage()
        if self._bar is None:
            self._bar = tqdm(
                total=self._max_iter,
                initial=storage.start_iter,
                file=self._file,
                desc="train",
                unit="it",
                dynamic_ncols=True,
            )
        done = min(storage.iter + 1, self._max_iter)
        # Make the text only if it is drawn: medians at every step would cost more than the bar.
        if time.time() - self._bar.last_print_t >= self._bar.mininterval:
            parts = [_describe_lr(storage).strip(), _describe_memory().strip()]
            if "total_loss" in storage.histories():
                window = storage.count_samples("total_loss", self._window_size)
                parts.insert(0, f"loss {storage.history('total_loss').median(window):.4g}")
            self._bar.set_postfix_str("  ".join(parts), refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the finished bar on the terminal."""
        if self._bar is not None:
            self._bar.close()
