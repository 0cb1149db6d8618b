"""Names that were removed from numpy, for packages that still use them."""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

_REMOVED = {"float": np.float64, "in1d": np.isin}


class _NumpyWithRemovedNames:
    """A stand-in for numpy that also has the removed names."""

    def __getattr__(self, name: str) -> Any:
        return _REMOVED[name] if name in _REMOVED else getattr(np, name)


@contextlib.contextmanager
def removed_numpy_names(module: ModuleType) -> Iterator[None]:
    """Provide the removed names to one module within the block.

    Only the name `np` inside `module` is replaced; numpy itself is unchanged.
    """
    original = module.np
    module.np = _NumpyWithRemovedNames()
    try:
        yield
    finally:
        module.np = original
