"""TensorBoard's event files, written without a thread.

tensorboard writes in a thread, which ends with a traceback on the terminal if a disk is full, and
everything added later is lost. Here, events that cannot be written are kept and tried again.
"""

import io
import itertools
import os
import socket
import time
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from d2lite.utils.writing import append

_NUMBERS = itertools.count()
# Maximum bytes to keep while they cannot be written; pictures are large.
_MOST_KEPT = 2**26


def make_summary_writer(log_dir: str, **kwargs: Any) -> SummaryWriter:
    """Return torch's SummaryWriter, which for a local folder uses the event file of this module.

    Its `flush` and `close` raise WriteError if the file cannot be written. `flush` can then be
    called again: nothing was written.

    Args:
        log_dir: folder of the file.
        kwargs: for SummaryWriter.
    """
    return (SummaryWriter if "://" in log_dir else _LocalWriter)(log_dir, **kwargs)


class _LocalWriter(SummaryWriter):
    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            self.file_writer = _LocalFileWriter(str(self.log_dir), self.filename_suffix)
            self.all_writers = {self.log_dir: self.file_writer}
        return self.file_writer


class _LocalFileWriter(FileWriter):
    def __init__(self, log_dir: str, suffix: str) -> None:
        self.event_writer = _EventFile(log_dir, suffix)


class _EventFile:
    """An event file that collects events, and appends them to the file in `flush`."""

    def __init__(self, log_dir: str, suffix: str) -> None:
        self._log_dir = log_dir
        now, host, number = int(time.time()), socket.gethostname(), next(_NUMBERS)
        name = f"events.out.tfevents.{now:010d}.{host}.{os.getpid()}.{number}{suffix}"
        self._path = os.path.join(log_dir, name)
        self._pending: list[bytes] = []

    def get_logdir(self) -> str:
        """Return the folder."""
        return self._log_dir

    def add_event(self, event: Event) -> None:
        """Add an event to be written."""
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._pending.append(record.getvalue())

    def flush(self) -> None:
        """Write the added events.

        Raises:
            WriteError: they cannot be written. They are kept, except that the oldest are dropped
                if they take too much memory.
        """
        while len(self._pending) > 1 and sum(map(len, self._pending)) > _MOST_KEPT:
            del self._pending[0]
        head = [] if os.path.exists(self._path) else [self._head()]
        append(self._path, b"".join([*head, *self._pending]))
        self._pending.clear()

    def _head(self) -> bytes:
        record = io.BytesIO()
        event = Event(wall_time=time.time(), file_version="brain.Event:2")
        RecordWriter(record).write(event.SerializeToString())
        return record.getvalue()

    def close(self) -> None:
        """Write what is left."""
        if self._pending:
            self.flush()
