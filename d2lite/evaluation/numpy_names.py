"""Names that numpy has removed, for packages that still use them."""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

_REMOVED = {"float": np.float64, "in1d": np.isin}


class _NumpyWithRemovedNames:
    """Looks like numpy, and has what it no longer has."""

    def __getattr__(self, name: str) -> Any:
        return _REMOVED[name] if name in _REMOVED else getattr(np, name)


@contextlib.contextmanager
def removed_numpy_names(module: ModuleType) -> Iterator[None]:
    """Give one module the removed names, for a while.

    Only the name `np` inside `module` is replaced; numpy itself stays as it is, so nobody else
    notices.
    """
    original = module.np
    module.np = _NumpyWithRemovedNames()
    try:
        yield
    finally:
        module.np = original
