"""Signals that ask a training to stop, or to save a checkpoint, at the next good moment.

SIGINT (Ctrl-C) and SIGTERM stop after the current iteration, with a checkpoint; exit statuses are
130 and 143, as shells have them. A second one acts at once. SIGUSR1 saves a checkpoint and goes on.
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
# torchrun passes on the signal that a scheduler has sent to its workers already.
_COPY_SECONDS = 5.0

_open: "StopSignals | None" = None


class StopRequested(KeyboardInterrupt):
    """A training leaves because of a signal.

    Attributes:
        number: of the signal.
        exit_code: 128 + number.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


def check_stop() -> None:
    """Raise StopRequested if a stop was requested of the training that is running, if any is.

    For long work within a training, such as an evaluation, at moments at which it can be left.
    """
    if _open is not None and _open.requested:
        raise StopRequested(_open.requested)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back from processes that start in the block.

    They call `release_signals` when they are ready: a signal to all processes would otherwise kill
    a worker before it can handle one, and with it the step that the training wants to finish. This
    process may still get the signals, by its other threads.
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
    """Take the signals that `signals_held` holds back in this process."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


class StopSignals:
    """While it is open, the first signal is only noted; `agreed` says so on all ranks alike.

    A KeyboardInterrupt in the middle of anything can be lost, or turn into another error: in
    torch.save it becomes a RuntimeError about a position in the file.

    Signals that somebody else handles, and those of threads, are left alone.

    Attributes:
        requested: number of the signal that asked to stop; 0: none.
        save_requested: whether a checkpoint was asked for.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.save_requested = False
        self._requested_at = 0.0  # 0: not of this process itself
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
        """(signal to stop for, whether to save) of any rank; all ranks call it together."""
        stop, save = comm.max_over_ranks([self.requested, int(self.save_requested)])
        self.requested, self.save_requested = self.requested or stop, False
        return stop, bool(save)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == _SAVE:
            self.save_requested = True
        elif number == FORWARDED:
            self.requested = self.requested or signal.SIGTERM
        elif not self._requested_at:
            # The same signal to all processes may come here after what `launch` or the other ranks
            # have made of it.
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
