"""The way in for names that only code written for detectron2 uses.

Importing this module puts a finder in front of Python's. It lets every module of the rooms load as
it is, and gives it a `__getattr__` that looks a missing name up in the table of `table.py`; and it
supplies the modules of detectron2 that have no counterpart here. Nothing in the rooms knows of it,
and the table is not read before somebody asks for such a name.
"""

import importlib
import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["find_old_name"]

PACKAGE = __name__.partition(".")[0]


def find_old_name(module: ModuleType, name: str) -> Any:
    """Return what detectron2 has as `name` in a module of the same path.

    Raises:
        ImportError: it belongs to a part that is not here; says what to use instead.
        AttributeError: detectron2 has no such name either, as far as the table knows.
    """
    if not (name.startswith("__") and name.endswith("__")):
        from d2lite.compat import table  # not at the top: most programs never need it

        path = module.__name__.partition(".")[2]
        if reason := table.reason_it_is_gone(f"{path}.{name}"):
            raise ImportError(f"{module.__name__}.{name} is not here: {reason}")
        if found := table.target(path, name, is_package=hasattr(module, "__path__")):
            return _load(found)
    raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")


def _load(target: str) -> Any:
    """Return an object given as "module:attribute", or a module given by its name alone."""
    module_name, _, attribute = target.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def _let_in(module: ModuleType) -> None:
    module.__dict__.setdefault("__getattr__", partial(find_old_name, module))


class _GoneLoader(Loader):
    """Refuses to load a module of detectron2 that is not here, with the reason."""

    def __init__(self, reason: str):
        self.reason = reason

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ImportError(f"{spec.name} is not here: {self.reason}", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("create_module has refused already")


class _OldNamesFinder(MetaPathFinder):
    """Finds the modules of this package as usual, and the ones that only detectron2 has."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE + "."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            if spec.loader is not None:
                _let_in_after_loading(spec.loader)
            return spec
        from d2lite.compat import table

        reason = table.reason_it_is_gone(fullname.partition(".")[2])
        return ModuleSpec(fullname, _GoneLoader(reason)) if reason else None


def _let_in_after_loading(loader: Loader) -> None:
    """Wrap `exec_module` of one loader; it stays what it is for those who ask it for source."""
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        _let_in(module)

    loader.exec_module = exec_module


def _install() -> None:
    """Put the finder in front, and reach the modules that were loaded before it."""
    if any(isinstance(finder, _OldNamesFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _OldNamesFinder())
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE + ".") and not name.startswith(__name__.rpartition(".")[0]):
            _let_in(module)


_install()
