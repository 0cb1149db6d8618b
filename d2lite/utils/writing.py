"""Write files atomically, and report in one line why one can't be written.

A disk can be full, read-only or over quota at any moment, and a folder can vanish. These functions
leave either the old file or a complete new one, and raise `WriteError` if they fail.
"""

import contextlib
import errno
import io
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# Errors for which the message gives the needed and the free space.
_OF_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class WriteError(OSError):
    """A file can't be written; the message gives the file, the reason and, if relevant, the space.

    Attributes:
        errno: number of the system's error.
        filename: path of the file.
    """

    def __init__(self, path: str | Path, cause: OSError, needed: int | None = None) -> None:
        """
        Args:
            path: path of the file.
            cause: the system's error.
            needed: size of the file in bytes, if known.
        """
        reason = _reason(path, cause)
        if cause.errno in _OF_SPACE:
            folder = _existing(path)
            needs = "" if needed is None else f"it needs {_size(needed)}, and "
            with contextlib.suppress(OSError):
                free = _size(shutil.disk_usage(folder).free)
                reason += f" ({needs}{folder} has {free} free)"
        super().__init__(f"{path} cannot be written: {reason}")
        self.errno, self.filename, self.needed = cause.errno, str(path), needed
        self.reason = reason

    def __str__(self) -> str:  # an OSError with a number prints only the number and the name
        return str(self.args[0])

    def __reduce__(self) -> tuple:  # errors are sent between processes
        return _restored, (str(self), self.errno, self.filename, self.needed, self.reason)


def _restored(message: str, number: int, filename: str, needed: int | None, reason: str) -> OSError:
    error = WriteError.__new__(WriteError)
    OSError.__init__(error, message)
    error.errno, error.filename, error.needed, error.reason = number, filename, needed, reason
    return error


def _reason(path: str | Path, cause: OSError) -> str:
    if cause.errno == errno.ENOENT:
        return f"there is no folder {os.path.dirname(path) or '.'}"
    if cause.errno == errno.ENOSPC and hasattr(os, "statvfs"):
        state = os.statvfs(_existing(path))
        if state.f_files > 0 and state.f_favail == 0:
            return "No inode is left on the device, so it cannot hold another file"
    return cause.strerror or str(cause) or type(cause).__name__


def _existing(path: str | Path) -> str:
    """Return the innermost existing folder of a path."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _size(n_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"


@contextmanager
def naming_write_errors(path: str | Path, needed: int | None = None) -> Iterator[None]:
    """Turn an OSError of the block into a WriteError that names the file.

    Args:
        path: the only file that the block writes.
        needed: its size in bytes, if known.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error, needed) from error


class _NotingFile(io.FileIO):
    """A file that stores the error of a failed write.

    torch.save replaces that error by a RuntimeError about a position in the file.
    """

    failure: OSError | None = None
    wanted = 0  # bytes, at least

    def write(self, data: Any) -> int:
        self.wanted = max(self.wanted, self.tell() + memoryview(data).nbytes)
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def atomic_write(
    path: str | Path, mode: str = "wb", needed: int | None = None, *, together: bool = False
) -> Iterator[IO]:
    """Open a file for writing that appears at `path` only when it is complete and on disk.

    Until then its name ends in ".partial"; it is removed if writing fails.

    Args:
        path: a local path; its folder exists.
        mode: "wb" or "w".
        needed: size of the file in bytes, for the message if there is no space; None: the size that
            the file would have had after the failed write.
        together: whether several processes, even on several machines, may write the file at once;
            the last one wins.

    Raises:
        WriteError: the file can't be written. An existing file is unchanged.
    """
    path = Path(path)
    writer = f".{socket.gethostname()}-{os.getpid()}" if together else ""
    partial = path.with_name(f"{path.name}{writer}.partial")
    raw: _NotingFile | None = None
    file: IO | None = None
    in_block = False
    try:
        raw = _NotingFile(partial, "w")
        file = io.BufferedWriter(raw)
        if "b" not in mode:
            file = io.TextIOWrapper(file, encoding="utf-8")
        in_block = True
        yield file
        in_block = False
        file.flush()
        os.fsync(raw.fileno())
        file.close()
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException as error:
        if raw is not None:
            for opened in (raw, file):  # the inner one first, so that nothing is flushed
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    opened.close()
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        failure = raw.failure if raw is not None else None
        if failure is None and isinstance(error, OSError) and not in_block:
            failure = error
        if failure is None or not isinstance(error, Exception):
            raise
        if needed is None and raw is not None:
            needed = raw.wanted
        raise WriteError(path, failure, needed) from error


def _sync_folder(folder: Path) -> None:
    """Flush the folder, so that the new name of a file survives a power cut if the system
    allows."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(path: str | Path, data: bytes) -> None:
    """Append bytes to a file, all of them or none, and flush them to disk.

    The folder is created if necessary.

    Raises:
        WriteError: the bytes can't be written. The file is unchanged.
    """
    with naming_write_errors(path, len(data)):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
