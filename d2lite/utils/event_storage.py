"""The EventStorage, in which training steps store their values.

A step puts values into the open EventStorage, and event writers (`events.py`) read them from there.
Iterations count from 0.
"""

from collections import defaultdict
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

_OPEN_STORAGES: list["EventStorage"] = []

# Number of latest values of a scalar that checkpoints store: the longest window of a writer.
_KEPT_VALUES = 1000


def get_event_storage() -> "EventStorage":
    """Return the storage last opened by `with EventStorage(...)`.

    Raises:
        AssertionError: no storage is open.
    """
    assert _OPEN_STORAGES, (
        "no EventStorage is open: call this inside `with EventStorage(start_iter) as storage:`, or "
        "use log_scalar, which is silent without one"
    )
    return _OPEN_STORAGES[-1]


def has_event_storage() -> bool:
    """Return whether an EventStorage is open."""
    return bool(_OPEN_STORAGES)


def is_time_to_draw(period: int) -> bool:
    """Return whether to draw images in this iteration: a storage is open, and its iteration is a
    multiple of `period` (0 means never)."""
    return period > 0 and has_event_storage() and get_event_storage().iter % period == 0


def log_scalar(name: str, value: float, smoothing_hint: bool = True) -> None:
    """Put a scalar into the open storage; do nothing if none is open."""
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
    """A series of (value, iteration) that checkpoints can store."""

    def state_dict(self) -> dict:
        """Return the latest values, and the state of the global mean, as tensors and numbers."""
        values, iterations = zip(*self._data[-_KEPT_VALUES:], strict=True)
        return {
            "values": torch.tensor(values, dtype=torch.float64),
            "iterations": torch.tensor(iterations, dtype=torch.int64),
            "count": self._count,
            "global_avg": float(self._global_avg),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue the series of a `state_dict`; raise a ValueError if it is malformed."""
        values, iterations = state["values"], state["iterations"]
        count, average = state["count"], state["global_avg"]
        if not (
            values.ndim == iterations.ndim == 1
            and 0 < len(values) == len(iterations)
            and not iterations.is_floating_point()
            and isinstance(count, Integral)
            and count >= len(values)
            and isinstance(average, Real)
        ):
            raise ValueError("it is not the history of a scalar")
        self._data = list(zip(values.tolist(), iterations.tolist(), strict=True))
        self._count, self._global_avg = count, average


class EventStorage:
    """Values of a run: scalars with their history, images and histograms.

    with EventStorage(start_iter) as storage:
        storage.iter = ...
        storage.put_scalar("loss", 0.5)
    """

    def __init__(self, start_iter: int = 0):
        """start_iter: the first iteration of the run; above 0 if it is resumed."""
        self.start_iter = start_iter
        self._iter = start_iter
        self._history: dict[str, _History] = defaultdict(_History)
        self._smoothing_hints: dict[str, bool] = {}
        self._restored: set[str] = set()  # names whose hint comes from a checkpoint
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict] = []
        self.evaluated_iter = -1  # iteration of the latest evaluation, whose results are written
        self.write_iter = -1  # iteration that writers write even if their period has not passed

    @property
    def iter(self) -> int:
        """The current iteration, set by the training loop."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """Old name of `iter`."""
        return self._iter

    def step(self) -> None:
        """Advance to the next iteration."""
        self._iter += 1

    def put_scalar(
        self, name: str, value: float, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add one scalar.

        Args:
            value: a number or a tensor of one element.
            smoothing_hint: whether the value is noisy, so that writers show a median of its latest
                values. It must be the same in all calls for a name.
            cur_iter: the iteration it belongs to; the current one by default.
        """
        name = self._current_prefix + name
        value = float(value.detach() if isinstance(value, torch.Tensor) else value)
        cur_iter = self._iter if cur_iter is None else int(cur_iter)
        if name in self._restored:  # the running program overrides the checkpoint
            self._restored.remove(name)
            self._smoothing_hints[name] = smoothing_hint
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
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add a histogram of a tensor's values.

        Args:
            hist_tensor: values of any shape; an empty tensor is ignored.
            bins: number of equal bins between the minimum and the maximum.
        """
        values = hist_tensor.detach().flatten().float().cpu()
        if values.numel() == 0:
            return
        low, high = values.min().item(), values.max().item()
        counts = torch.histc(values, bins=bins)
        edges = torch.linspace(low, high, steps=bins + 1, dtype=torch.float32)
        self._histograms.append(
            {
                "tag": hist_name,
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
        """Return all values of a scalar; raise a KeyError if there is none of that name."""
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was put into the event storage")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Return the histories of all scalars by name."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return the latest value of every scalar and its iteration, without smoothing."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return the same as `latest`, with medians over the window for scalars to be smoothed."""
        latest = {}
        for name, (value, iteration) in self._latest_scalars.items():
            if self._smoothing_hints[name]:
                samples = self.count_samples(name, window_size)
                value = float(self._history[name].median(samples))
            latest[name] = (value, iteration)
        return latest

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Return the number of values of a scalar in its latest `window_size` iterations.

        A scalar that is put every 5th iteration has 4 values in 20 iterations, one that is put
        twice in each has 40.
        """
        data = self._history[name].values()
        latest_iteration = data[-1][1]
        count = 0
        for _, iteration in reversed(data):
            if iteration <= latest_iteration - window_size:
                break
            count += 1
        return count

    def smoothing_hints(self) -> dict[str, bool]:
        """Return, by name, whether a scalar is to be smoothed."""
        return self._smoothing_hints

    def clear_images(self) -> None:
        """Delete the images; called by the writer that has written them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Delete the histograms; called by the writer that has written them."""
        self._histograms = []

    @contextmanager
    def name_scope(self, name: str):
        """Prefix the names of all scalars put in the block by `name/`."""
        outer = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def state_dict(self) -> dict:
        """Return what a resumed run needs to show the same smoothed values."""
        return {
            name: {
                **history.state_dict(),
                "smoothing_hint": self._smoothing_hints[name],
                "latest": self._latest_scalars[name],
            }
            for name, history in self._history.items()
        }

    def load_state_dict(self, state: dict) -> None:
        """Load the values of a `state_dict`; the current iteration is kept.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the state is malformed.
        """
        for name, entry in state.items():
            value, iteration = entry["latest"]
            hint = entry["smoothing_hint"]
            numbers = isinstance(value, Real) and isinstance(iteration, Integral)
            if not (numbers and isinstance(name, str) and isinstance(hint, bool)):
                raise ValueError(f"its entry {name!r:.80} is not that of a scalar")
            self._history[name].load_state_dict(entry)
            self._smoothing_hints[name] = hint
            self._restored.add(name)
            self._latest_scalars[name] = (value, iteration)

    def __enter__(self) -> "EventStorage":
        _OPEN_STORAGES.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        closed = _OPEN_STORAGES.pop()
        assert closed is self, "event storages must be closed in the reverse order of opening"
