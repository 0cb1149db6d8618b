"""Places at which a run can be killed: every change that it makes to the disk, and every hook."""

import fcntl
import os
import re
import signal
from collections.abc import Callable
from typing import IO, Any

import torch

from d2lite.utils import events, tensorboard_file, writing

__all__ = ["Places"]


class Places:
    """Counts the places that the run of this process comes to, and kills it at one of them."""

    def __init__(self, kill_at: int = 0, kill_name: str = "", log: str = ""):
        """
        Args:
            kill_at: the number of the place, from 1; 0: none.
            kill_name: only places with this text in their names count.
            log: file for the names, as they are reached.
        """
        self._left = kill_at
        self._kill_name = kill_name
        self._log = open(log, "w", encoding="utf-8") if log else None  # noqa: SIM115
        self._process = os.getpid()

    def reach(self, name: str, before: Callable[[], Any] = lambda: None) -> None:
        """Come to a place. before: what is done only if the run is killed here."""
        if os.getpid() != self._process:  # a worker of a loader
            return
        if self._log is not None:
            print(name, file=self._log, flush=True)
        if self._kill_name not in name:
            return
        self._left -= 1
        if self._left == 0:
            before()
            os.kill(self._process, signal.SIGKILL)

    def watch(self) -> None:
        """Make places of the calls that change files."""
        for function in ("replace", "remove", "fsync", "mkdir"):
            self._watch_call(os, function)
        self._watch_call(fcntl, "lockf")
        self._tear_checkpoints()
        self._tear_appends()

    def _watch_call(self, module: Any, function: str) -> None:
        call = getattr(module, function)

        def watched(*args: Any, **kwargs: Any) -> Any:
            # Numbers and open files say nothing. Names of event files contain a time.
            subject = os.path.basename(args[-1]) if isinstance(args[-1], str | os.PathLike) else ""
            subject = re.sub(r"tfevents.*", "tfevents", subject)
            self.reach(f"before {function} {subject}")
            result = call(*args, **kwargs)
            self.reach(f"after {function} {subject}")
            return result

        setattr(module, function, watched)

    def _tear_checkpoints(self) -> None:
        save = torch.save

        def torn(data: Any, file: IO, *args: Any, **kwargs: Any) -> None:
            def half() -> None:
                save(data, file, *args, **kwargs)
                file.flush()
                os.truncate(file.fileno(), file.tell() // 2)

            self.reach("in torch.save", half)
            save(data, file, *args, **kwargs)

        torch.save = torn

    def _tear_appends(self) -> None:
        """Lines of metrics.json, and records of event files."""
        append = writing.append

        def torn(path: str, data: bytes) -> None:
            name = re.sub(r"tfevents.*", "tfevents", os.path.basename(path))
            self.reach(f"in an append to {name}", lambda: append(path, data[: len(data) // 2]))
            append(path, data)

        events.append = tensorboard_file.append = torn
