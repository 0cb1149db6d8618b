"""Report which loader worker died or raised an error, why, and on which image.

torch reports the death of a worker as a RuntimeError with a process id, raised anywhere in the
training process. Each worker records its current item in shared memory, so that the error can name
the image.
"""

import contextlib
import multiprocessing
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from d2lite.utils.errors import ProcessDiedError, exit_cause

_DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>\d+)[\d, ]*\) (is killed|exited unexpectedly)"
)
_RAISED = re.compile(r"Caught (?P<kind>\w+) in DataLoader worker process (?P<worker>\d+)\.\n")
_HINTS = {
    "SIGKILL": "The system does so when memory runs out: lower DATALOADER.NUM_WORKERS",
    "SIGBUS": "Shared memory is full: enlarge /dev/shm (docker run --shm-size), or lower "
    "DATALOADER.NUM_WORKERS",
}
_OTHER_HINT = "Look at that image, or set DATALOADER.NUM_WORKERS 0 to see where it happens"
_NOTHING = -1

_boards: "weakref.WeakSet[WorkBoard]" = weakref.WeakSet()
_own_row: Any = (
    None  # of this process, if it is a worker: an array of process id, item, failed item
)


class WorkBoard:
    """Records in shared memory which item each worker process of a loader is loading."""

    def __init__(self, name_of: Callable[[int], str], num_workers: int):
        """name_of: returns the file of an item. It must not load the item, which could crash
        too."""
        self._name_of = name_of
        self._rows = torch.full((num_workers, 3), _NOTHING, dtype=torch.int64).share_memory_()
        self._processes: dict[int, BaseProcess] = {}
        _boards.add(self)

    def __getstate__(self) -> dict:  # a worker needs only these
        return {"_rows": self._rows}

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Record the processes started inside the block."""
        before = set(multiprocessing.active_children())
        yield
        started = set(multiprocessing.active_children()) - before
        self._processes = {process.pid: process for process in started}

    def sign_on(self, worker_id: int) -> None:
        """Register this process as the worker with this number."""
        global _own_row
        _own_row = self._rows[worker_id].numpy()
        _own_row[:] = os.getpid(), _NOTHING, _NOTHING

    def end_workers(self, batches: Iterator) -> None:
        """Kill all workers, because torch waits several seconds for each after an error.

        Args:
            batches: torch's iterator that started them.
        """
        # A worker killed while it reads this event leaves its lock taken. torch sets the event when
        # the iterator is dropped, and would wait forever.
        batches._workers_done_event = threading.Event()
        for process in self._processes.values():
            process.kill()
        # torch's SIGCHLD handler reports it once.
        with contextlib.suppress(RuntimeError):
            for process in self._processes.values():
                process.join(timeout=1.0)
        self._processes.clear()

    def worker_of(self, process: int) -> int | None:
        """Return the number of the worker with this process id."""
        found = (self._rows[:, 0] == process).nonzero()
        return int(found[0, 0]) if len(found) else None

    def dead_processes(self) -> list[int]:
        """Return the processes that did not exit normally."""
        return [pid for pid, process in self._processes.items() if process.exitcode]

    def exit_status(self, process: int) -> int | None:
        """Return the exit status of a dead worker, -N for signal N; None if unknown."""
        if process not in self._processes:
            return None
        worker = self._processes.pop(process)  # so that it is not mistaken for a later process
        worker.join(timeout=1.0)
        return worker.exitcode

    def item(self, worker_id: int, *, failed: bool) -> str:
        """Return the file of a worker's current item, or of the one that failed; "" if none."""
        index = int(self._rows[worker_id, 2 if failed else 1])
        return "" if index == _NOTHING else self._name_of(index)


@contextlib.contextmanager
def at_work_on(index: int) -> Iterator[None]:
    """In a worker, record that an item of the dataset is being loaded."""
    if _own_row is None:
        yield
        return
    _own_row[1] = index
    try:
        yield
    except Exception:
        if _own_row[2] == _NOTHING:  # keep the failed item while the worker continues
            _own_row[2] = index
        raise
    finally:
        _own_row[1] = _NOTHING


def forget_failure() -> None:
    """In a worker, clear the record of a failed item, which is replaced by another one."""
    if _own_row is not None:
        _own_row[2] = _NOTHING


@contextlib.contextmanager
def telling_worker_deaths() -> Iterator[None]:
    """Raise ProcessDiedError with worker, signal and image if a loader's worker has died.

    Wrap everything that happens while a loader runs, not only the loader, since torch raises the
    error anywhere in the process.
    """
    try:
        yield
    except ProcessDiedError:
        raise
    except Exception as error:
        # The error and those before it: a `finally` on the way may have raised one of its own.
        chain: list[BaseException] = []
        before: BaseException | None = error
        while before is not None and before not in chain:
            chain.append(before)
            before = before.__context__
        runtime_errors = [str(one) for one in chain if isinstance(one, RuntimeError)]
        told = [match for text in runtime_errors if (match := _DEATH.search(text))]
        if not told and not any(isinstance(one, (EOFError, ConnectionError)) for one in chain):
            raise
        # The queue of a dying worker may break before torch's SIGCHLD handler reports it.
        with contextlib.suppress(RuntimeError):
            time.sleep(0.1)
        dead = (pid for board in list(_boards) for pid in board.dead_processes())
        process = int(told[0]["pid"]) if told else next(dead, None)
        if process is None:
            raise
        raise ProcessDiedError(_describe(process)) from error


def _describe(process: int) -> str:
    name, image, status = "A worker", "", None
    for board in list(_boards):
        worker = board.worker_of(process)
        if worker is not None:
            name, image = f"Worker {worker}", board.item(worker, failed=False)
            status = board.exit_status(process)
    on = f" while it made the sample of {image}" if image else ""
    cause = exit_cause(status)
    return (
        f"{name} of the data loader (process {process}) {cause.words}{on}. "
        f"{_HINTS.get(cause.signal, _OTHER_HINT)}. --resume continues from the last checkpoint"
    )


def error_in_worker(error: Exception, board: WorkBoard | None) -> Exception | None:
    """Return the error raised by a worker process in one line; None if it is of another origin.

    Returns:
        An error of the same class if its constructor takes a message, with the number of the worker
        and the image; its cause has the worker's traceback.
    """
    text = str(error.args[0]) if error.args else ""
    match = _RAISED.match(text)
    if match is None:
        return None
    worker = int(match["worker"])
    # The last line of a traceback has the class and the message, which may have more lines.
    message = text.rstrip().rpartition("\n")[2]
    message = message.partition(": ")[2] or message
    if type(error).__name__ != match["kind"]:  # torch could not make one of its class
        message = f"{match['kind']}: {message}"
    image = board.item(worker, failed=True) if board is not None else ""
    on = f", on {image}" if image and image not in message else ""
    told = f"{message} (in worker {worker} of the data loader{on})"
    try:
        in_one_line = type(error)(told)
    except Exception:  # of a class with arguments of its own
        in_one_line = RuntimeError(f"{type(error).__name__}: {told}")
    in_one_line.__cause__ = RuntimeError(f"in a worker of the data loader:\n{text}")
    return in_one_line
