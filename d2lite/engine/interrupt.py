"""Ctrl-C that waits for a moment at which a training can be left."""

import signal
import threading
from types import FrameType

__all__ = ["InterruptLater"]


class InterruptLater:
    """While it is open, the first Ctrl-C only makes `check` raise; a second one acts at once.

    A KeyboardInterrupt in the middle of anything can be lost, or turn into another error: in
    torch.save it becomes a RuntimeError about a position in the file.

    Signals that somebody else handles, and those of threads, are left alone.

    Attributes:
        requested: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._installed = False

    def __enter__(self) -> "InterruptLater":
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
