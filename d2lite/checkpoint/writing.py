"""Write checkpoint files so that a crash at any moment leaves the old file or the new one."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2lite.utils.writing import WriteError as WriteError, atomic_write

# Types that `read_checkpoint_file` loads, besides tensors, arrays and numpy scalars.
_LEAVES = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_DICTS = (dict, OrderedDict, Counter)
_CONTAINERS = (list, tuple, set, frozenset)


def save_checkpoint_file(data: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint atomically, with `torch.save`.

    Raises:
        TypeError: it contains something other than tensors, arrays, numbers, strings and
            containers, which could not be loaded safely; the message says where.
        WriteError: the file cannot be written; an existing one stays unchanged.
    """
    _require_plain(data, "")
    storages = {s.data_ptr(): s.nbytes() for s in _storages(data)}
    # Besides the tensors, the file contains their description, which is small.
    with atomic_write(path, needed=sum(storages.values())) as file:
        torch.save(data, file)


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        if not value.is_meta and value.layout == torch.strided:
            yield value.untyped_storage()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _storages(item)
    elif type(value) in _CONTAINERS:
        for item in value:
            yield from _storages(item)


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) or type(value) in _LEAVES:
        return
    if type(value) in _DICTS:
        for key, item in value.items():
            _require_plain(key, where)
            _require_plain(item, f"{where}[{key!r}]")
    elif type(value) in _CONTAINERS:
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(
            f"checkpoint{where} is a {type(value).__module__}.{type(value).__qualname__}; only "
            "tensors, arrays, numbers, strings and containers of them can be loaded back"
        )
