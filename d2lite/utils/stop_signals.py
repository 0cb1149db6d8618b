"""Signals that request to stop training, or to save a checkpoint, at the next safe point.

SIGINT (Ctrl-C) and SIGTERM stop after the current iteration, with a checkpoint; the exit status is
130 or 143, as in shells. A second signal stops at once. SIGUSR1 saves a checkpoint and continues.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from d2lite.utils import comm

# What `launch` sends to its workers when it is asked to stop itself. Unlike the signals above it
# may come twice: a terminal and some schedulers send theirs to all processes.
FORWARDED = getattr(signal, "SIGUSR2", None)
_SAVE = getattr(signal, "SIGUSR1", None)
# torchrun forwards the signal, although a scheduler has already sent it to the workers.
_COPY_SECONDS = 5.0

_open: "StopSignals | None" = None


class StopRequested(KeyboardInterrupt):
    """Training stops because of a signal.

    Attributes:
        number: number of the signal.
        exit_code: 128 + number.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


def check_stop() -> None:
    """Raise StopRequested if training is running and a stop was requested.

    Long work during training, such as an evaluation, calls it where it can be interrupted.
    """
    if _open is not None and _open.requested:
        raise StopRequested(_open.requested)


@contextmanager
def signals_held() -> Iterator[None]:
    """Block SIGINT and SIGTERM in processes started in the block.

    They call `release_signals` when they are ready. Otherwise a signal to all processes could kill
    a worker before its handlers are set, and with it the step that training wants to finish. This
    process may still receive the signals in other threads.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Unblock the signals that `signals_held` has blocked in this process."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


class StopSignals:
    """While it is open, the first signal is only recorded; `agreed` returns it on all ranks.

    A KeyboardInterrupt at an arbitrary point can be lost or turn into another error: in torch.save
    it becomes a RuntimeError about a position in the file.

    Signals with other handlers are not changed, and outside of the main thread nothing is done.

    Attributes:
        requested: number of the signal that requested to stop; 0: none.
        save_requested: whether a checkpoint was requested.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.save_requested = False
        self._requested_at = 0.0  # 0: no signal was sent to this process itself
        self._replaced: dict[int, object] = {}
        self._outer: StopSignals | None = None

    def __enter__(self) -> "StopSignals":
        global _open
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, _SAVE, FORWARDED):
                if number is None:  # not on Windows
                    continue
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    self._replaced[number] = before
                    signal.signal(number, self._handle)
        self._outer, _open = _open, self
        return self

    def __exit__(self, *_: object) -> None:
        global _open
        _open = self._outer
        for number, before in self._replaced.items():
            signal.signal(number, before)
        self._replaced.clear()

    def agreed(self) -> tuple[int, bool]:
        """Return (signal to stop for, whether to save) of any rank; all ranks must call it."""
        stop, save = comm.max_over_ranks([self.requested, int(self.save_requested)])
        self.requested, self.save_requested = self.requested or stop, False
        return stop, bool(save)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == _SAVE:
            self.save_requested = True
        elif number == FORWARDED:
            self.requested = self.requested or signal.SIGTERM
        elif not self._requested_at:
            # A signal sent to all processes may arrive here after `launch` or another rank has
            # already passed it on.
            self.requested = self.requested or number
            self._requested_at = time.monotonic()
        else:
            since = time.monotonic() - self._requested_at
            is_copy = "TORCHELASTIC_RUN_ID" in os.environ and since < _COPY_SECONDS
            if is_copy:
                return
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
