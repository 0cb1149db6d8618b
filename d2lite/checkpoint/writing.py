"""Write checkpoint files so that a crash at any moment leaves the old file or the new one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

__all__ = ["atomic_write", "save_checkpoint_file"]

# What `read_checkpoint_file` takes back, beside tensors, arrays and numpy scalars.
_LEAVES = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_CONTAINERS = (list, tuple, set, frozenset)


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file for writing that appears under `path` when it is complete and on the disk.

    Until then it has a name that ends in ".partial", which is removed if writing fails.

    Args:
        path: a local path; its folder exists.
        mode: "wb" or "w".
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the new name of a file survive a power cut too, where the system can promise it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint_file(data: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint atomically, with `torch.save`.

    Raises:
        TypeError: something in it is more than tensors, arrays, numbers, strings and containers,
            and could not be loaded safely; the message says where.
    """
    _require_plain(data, "")
    with atomic_write(path) as file:
        torch.save(data, file)


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) or type(value) in _LEAVES:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key, where)
            _require_plain(item, f"{where}[{key!r}]")
    elif type(value) in _CONTAINERS:
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(
            f"checkpoint{where} is a {type(value).__module__}.{type(value).__qualname__}; only "
            "tensors, arrays, numbers, strings and containers of them are loaded back"
        )
