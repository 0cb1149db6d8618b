"""A disk that fails one kind of file: no room for it, not to be opened, or its folder is gone."""

import builtins
import errno
import io
import os
import re
import shutil
import sys
from typing import Any

from d2lite.utils import writing

FAULTS = ("full", "read-only", "vanishing")


def inject(fault: str, file: str, spared: int, output_dir: str) -> None:
    """Have a fault in this process from now on.

    Args:
        fault: "full": half of what is written fits; "read-only": opening for writing is refused;
            "vanishing": the output folder is removed just before the file is opened, once.
        file: regular expression for the paths that are concerned, relative to the output folder.
        spared: so many times the file is opened first without a fault.
        output_dir: of the run.
    """
    folder = os.path.realpath(output_dir)
    pattern = re.compile(file)
    count = 0

    def concerns(path: Any) -> bool:
        if isinstance(path, int):  # of a file that is open
            path = os.readlink(f"/proc/self/fd/{path}")
        if not isinstance(path, str | os.PathLike):
            return False
        return bool(pattern.match(os.path.relpath(os.path.realpath(path), folder)))

    def at_open(event: str, arguments: tuple) -> None:
        nonlocal count
        if event != "open" or isinstance(arguments[0], int) or not concerns(arguments[0]):
            return
        if not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        count += 1
        if count > spared and fault == "read-only":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments[0])
        if count == spared + 1 and fault == "vanishing":
            shutil.rmtree(folder)

    class HalfFitting(io.FileIO):
        def write(self, data: Any) -> int:
            if count > spared and concerns(self.name):
                data = bytes(data)
                super().write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    open_file = builtins.open

    def open_half_fitting(file: Any, mode: str = "r", buffering: int = -1, *args, **kwargs) -> Any:
        if mode[0] not in "wax" or not concerns(file):
            return open_file(file, mode, buffering, *args, **kwargs)
        raw = HalfFitting(file, mode.replace("b", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding="utf-8", line_buffering=buffering == 1)

    sys.addaudithook(at_open)
    if fault == "full":
        builtins.open = open_half_fitting
        writing._NotingFile.__bases__ = (HalfFitting,)
