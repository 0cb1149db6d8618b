"""Where a training step leaves its figures, and the writers that carry them to the outside.

A step puts figures into the EventStorage that is open; writers read them from it, nobody else does.
Iterations count from 0.
"""

import datetime
import json
import logging
import os
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer
from tqdm import tqdm

from d2lite.utils.event_files import drop_event_records_from, drop_json_lines_from

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "ProgressBarWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
    "log_histogram",
    "log_image",
    "log_scalar",
]

_OPEN_STORAGES: list["EventStorage"] = []

# How many of the latest values of a figure a checkpoint keeps: the longest window a writer reads.
_KEPT_VALUES = 1000


def get_event_storage() -> "EventStorage":
    """The storage opened last by `with EventStorage(...)`; an AssertionError where none is open."""
    assert _OPEN_STORAGES, (
        "no EventStorage is open: call this inside `with EventStorage(start_iter) as storage:`, or "
        "use log_scalar, which is silent without one"
    )
    return _OPEN_STORAGES[-1]


def has_event_storage() -> bool:
    """Whether an EventStorage is open."""
    return bool(_OPEN_STORAGES)


def log_scalar(name: str, value: float, smoothing_hint: bool = True) -> None:
    """Put a scalar into the open storage; do nothing when none is open."""
    if has_event_storage():
        get_event_storage().put_scalar(name, value, smoothing_hint=smoothing_hint)


def log_image(name: str, image: Any) -> None:
    """Put an image into the open storage (see EventStorage.put_image), if there is one."""
    if has_event_storage():
        get_event_storage().put_image(name, image)


def log_histogram(name: str, values: torch.Tensor, bins: int = 1000) -> None:
    """Put a histogram of `values` into the open storage, if there is one."""
    if has_event_storage():
        get_event_storage().put_histogram(name, values, bins=bins)


class _History(HistoryBuffer):
    """A series of (value, iteration) that can be stored in a checkpoint and brought back."""

    def state_dict(self) -> dict:
        """The latest values, and what the mean over all needs, as tensors and numbers."""
        values, iterations = zip(*self._data[-_KEPT_VALUES:], strict=True)
        return {
            "values": torch.tensor(values, dtype=torch.float64),
            "iterations": torch.tensor(iterations, dtype=torch.int64),
            "count": self._count,
            "global_avg": float(self._global_avg),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue the series of `state_dict`."""
        values, iterations = state["values"].tolist(), state["iterations"].tolist()
        self._data = list(zip(values, iterations, strict=True))
        self._count, self._global_avg = state["count"], state["global_avg"]


class EventStorage:
    """The figures of a run: scalars with their history, images and histograms.

    with EventStorage(start_iter) as storage:
        storage.iter = ...
        storage.put_scalar("loss", 0.5)
    """

    def __init__(self, start_iter: int = 0):
        """start_iter: the iteration the run starts with; above 0 when it is resumed."""
        self.start_iter = start_iter
        self._iter = start_iter
        self._history: dict[str, _History] = defaultdict(_History)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict] = []

    @property
    def iter(self) -> int:
        """The current iteration; whoever runs the loop sets it."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """The same as `iter`, under its older name."""
        return self._iter

    def step(self) -> None:
        """Go on to the next iteration."""
        self._iter += 1

    def put_scalar(
        self, name: str, value: float, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add one scalar.

        Args:
            value: a number or a tensor of one element.
            smoothing_hint: whether the figure is noisy, so that writers show a median of its latest
                values. It must be the same in all calls for one name.
            cur_iter: the iteration it belongs to; the current one by default.
        """
        name = self._current_prefix + name
        value = float(value)
        cur_iter = self._iter if cur_iter is None else int(cur_iter)
        known_hint = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, (
            f"scalar {name!r} was put with smoothing_hint={known_hint} before"
        )
        self._latest_scalars[name] = (value, cur_iter)
        self._history[name].update(value, cur_iter)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: float
    ) -> None:
        """Add several scalars: `storage.put_scalars(loss=1.0, accuracy=0.3)`."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Add an image to show.

        Args:
            img_tensor: tensor or array (3, H, W) in RGB, uint8 in [0, 255] or float in [0, 1].
        """
        self._vis_data.append((self._current_prefix + img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add a histogram of a tensor's values.

        Args:
            hist_tensor: values of any shape; an empty one is left out.
            bins: number of equal bins between the least and the greatest value.
        """
        values = hist_tensor.detach().flatten().float().cpu()
        if values.numel() == 0:
            return
        low, high = values.min().item(), values.max().item()
        counts = torch.histc(values, bins=bins)
        edges = torch.linspace(low, high, steps=bins + 1, dtype=torch.float32)
        self._histograms.append(
            {
                "tag": self._current_prefix + hist_name,
                "min": low,
                "max": high,
                "num": values.numel(),
                "sum": values.sum().item(),
                "sum_squares": values.square().sum().item(),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": counts.tolist(),
                "global_step": self._iter,
            }
        )

    def history(self, name: str) -> HistoryBuffer:
        """All values of one scalar; KeyError where there is none of that name."""
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was put into the event storage")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """The histories of all scalars by name."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """The latest value of every scalar and its iteration, as it was put."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As `latest`, with medians over the current window for scalars that are to be smoothed."""
        return {
            name: (self._smoothed(name, value, window_size), iteration)
            for name, (value, iteration) in self._latest_scalars.items()
        }

    def _smoothed(self, name: str, value: float, window_size: int) -> float:
        if not self._smoothing_hints[name]:
            return value
        return float(self._history[name].median(self.count_samples(name, window_size)))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of a scalar fall into its latest `window_size` iterations.

        A scalar that is put every 5th iteration has 4 values in 20 iterations, not 20.
        """
        data = self._history[name].values()
        latest_iteration = data[-1][1]
        count = 0
        for _, iteration in reversed(data):
            if iteration <= latest_iteration - window_size or count == window_size:
                break
            count += 1
        return count

    def smoothing_hints(self) -> dict[str, bool]:
        """By name, whether a scalar is to be smoothed."""
        return self._smoothing_hints

    def clear_images(self) -> None:
        """Forget the images; called by the writer that shows them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; called by the writer that shows them."""
        self._histograms = []

    @contextmanager
    def name_scope(self, name: str):
        """Put `name/` before all names that are put within."""
        outer = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def state_dict(self) -> dict:
        """What a resumed run needs in order to show the same smoothed figures."""
        return {
            name: {
                **history.state_dict(),
                "smoothing_hint": self._smoothing_hints[name],
                "latest": self._latest_scalars[name],
            }
            for name, history in self._history.items()
        }

    def load_state_dict(self, state: dict) -> None:
        """Bring back the figures of `state_dict`; the current iteration stays as it is."""
        for name, entry in state.items():
            self._history[name].load_state_dict(entry)
            self._smoothing_hints[name] = entry["smoothing_hint"]
            value, iteration = entry["latest"]
            self._latest_scalars[name] = (value, iteration)

    def __enter__(self) -> "EventStorage":
        _OPEN_STORAGES.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        closed = _OPEN_STORAGES.pop()
        assert closed is self, "event storages must be closed in the reverse order of opening"


class EventWriter:
    """Interface of what carries figures from the storage to somewhere."""

    def write(self) -> None:
        """Carry over what is new in `get_event_storage()`."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish; called once, after training."""


class _NewScalars:
    """Picks the scalars that a writer has not written yet.

    Figures from before `start_iter`, which come back with a checkpoint, were written by the run
    that is resumed.
    """

    def __init__(self, window_size: int, start_iter: int):
        self.window_size = window_size
        self.last_written = start_iter - 1

    def take(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """Iteration -> {name: smoothed value}, in order of iterations."""
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(
            self.window_size
        ).items():
            if iteration > self.last_written:
                found[iteration][name] = value
        self.last_written = max(found, default=self.last_written)
        return {iteration: found[iteration] for iteration in sorted(found)}


class JSONWriter(EventWriter):
    """Adds a line of json to a file at each write: {"iteration": 19, "loss": ...}.

    When a run is resumed, the lines that the former one wrote for iterations that are now run again
    are dropped, so that the file has each iteration once.
    """

    def __init__(self, json_file: str, window_size: int = 20):
        """json_file: path of the file. window_size: iterations over which medians are taken."""
        self._json_file = json_file
        self._window_size = window_size
        self._new: _NewScalars | None = None
        self._file_handle: Any = None

    def write(self) -> None:
        """Write one line for each iteration that has new scalars."""
        storage = get_event_storage()
        if self._new is None:
            self._new = _NewScalars(self._window_size, storage.start_iter)
            drop_json_lines_from(storage.start_iter, self._json_file)
            self._file_handle = open(self._json_file, "a")  # noqa: SIM115  (open until close())
        for iteration, scalars in self._new.take(storage).items():
            line = json.dumps({**scalars, "iteration": iteration}, sort_keys=True)
            self._file_handle.write(line + "\n")
        self._file_handle.flush()
        os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file_handle is not None:
            self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, images and histograms for TensorBoard.

    When a run is resumed, records of iterations that are now run again are dropped from the event
    files of the former one, so that every viewer shows each iteration once.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any):
        """log_dir: folder of the event files. kwargs: for torch's SummaryWriter."""
        self._window_size = window_size
        self._log_dir = log_dir
        self._kwargs = kwargs
        self._new: _NewScalars | None = None

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        return SummaryWriter(self._log_dir, **self._kwargs)

    def write(self) -> None:
        """Write everything new, and clear the storage's images and histograms."""
        storage = get_event_storage()
        if self._new is None:
            self._new = _NewScalars(self._window_size, storage.start_iter)
            drop_event_records_from(storage.start_iter, self._log_dir)
        for iteration, scalars in self._new.take(storage).items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if "_writer" in self.__dict__:  # it was used
            self._writer.close()


class _Remaining:
    """Estimates the seconds that are left of a run, from step times where there are some."""

    def __init__(self, max_iter: int):
        self.max_iter = max_iter
        self._last_seen: tuple[int, float] | None = None  # (iteration, clock)

    def seconds(self, storage: EventStorage) -> float | None:
        """Seconds to go, None when nothing is known yet."""
        steps_left = self.max_iter - storage.iter - 1
        if "time" in storage.histories():
            return float(storage.history("time").median(1000)) * steps_left
        now = (storage.iter, time.perf_counter())
        before, self._last_seen = self._last_seen, now
        if before is None or now[0] <= before[0]:
            return None
        return (now[1] - before[1]) / (now[0] - before[0]) * steps_left


class CommonMetricPrinter(EventWriter):
    """Logs a line with time left, iteration, losses, timing, learning rate and memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        """max_iter: iterations of the run, for the time left; None: not shown."""
        self.logger = logging.getLogger("d2lite.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._remaining = None if max_iter is None else _Remaining(max_iter)

    def write(self) -> None:
        """Log one line about the current iteration; none once training is over."""
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            # The writers run once more after training, for figures of the last evaluation.
            return
        self.logger.info(
            " %siter: %d  %s  %s%s%s",
            self._eta(storage),
            storage.iter,
            _describe_losses(storage, self._window_size),
            self._timing(storage),
            _describe_lr(storage),
            _describe_memory(),
        )

    def _eta(self, storage: EventStorage) -> str:
        seconds = self._remaining.seconds(storage) if self._remaining else None
        if seconds is None:
            return ""
        if "time" in storage.histories():
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return f"eta: {datetime.timedelta(seconds=int(seconds))}  "

    def _timing(self, storage: EventStorage) -> str:
        """Mean over the window, and latest, of step and data seconds; absent at the very start."""
        text = ""
        for name in ("time", "data_time"):
            if name in storage.histories():
                history = storage.history(name)
                mean = history.avg(storage.count_samples(name, self._window_size))
                text += f"  {name}: {mean:.4f}  last_{name}: {history.latest():.4f}"
        return text + "  " if text else text


def _describe_losses(storage: EventStorage, window_size: int) -> str:
    return "  ".join(
        f"{name}: {history.median(storage.count_samples(name, window_size)):.4g}"
        for name, history in storage.histories().items()
        if "loss" in name
    )


def _describe_lr(storage: EventStorage) -> str:
    if "lr" not in storage.histories():
        return " lr: N/A"
    return f" lr: {storage.history('lr').latest():.5g}"


def _describe_memory() -> str:
    """The most memory used so far: of the GPU, else of this process."""
    megabytes = peak_memory_mb()
    return "" if megabytes is None else f"  max_mem: {megabytes:.0f}M"


def peak_memory_mb() -> float | None:
    """Peak memory in MiB: allocated on the GPU, else resident; None where neither is known."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB on Linux


class ProgressBarWriter(EventWriter):
    """A live bar with total loss, learning rate and memory, for a terminal.

    It may be called at every iteration: the terminal is redrawn a few times a second at most.
    """

    def __init__(self, max_iter: int, window_size: int = 20, file: Any = None):
        """max_iter: iterations of the run. file: stream to draw on; stderr by default."""
        self._max_iter = max_iter
        self._window_size = window_size
        self._file = file
        self._bar: tqdm | None = None

    @staticmethod
    def suits(stream: Any = None) -> bool:
        """Whether a stream (stderr by default) is a terminal that can redraw a line."""
        stream = sys.stderr if stream is None else stream
        return bool(getattr(stream, "isatty", lambda: False)()) and os.getenv("TERM") != "dumb"

    def write(self) -> None:
        """Move the bar to the current iteration."""
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
        # Text only when it will be drawn: medians at every step would cost more than the bar.
        if time.time() - self._bar.last_print_t >= self._bar.mininterval:
            self._bar.set_postfix_str(self._postfix(storage), refresh=False)
        self._bar.update(done - self._bar.n)

    def _postfix(self, storage: EventStorage) -> str:
        parts = []
        if "total_loss" in storage.histories():
            window = storage.count_samples("total_loss", self._window_size)
            parts.append(f"loss {storage.history('total_loss').median(window):.4g}")
        return "  ".join([*parts, _describe_lr(storage).strip(), _describe_memory().strip()])

    def close(self) -> None:
        """Leave the finished bar on the terminal."""
        if self._bar is not None:
            self._bar.close()
