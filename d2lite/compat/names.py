"""Lookup of names that only code written for detectron2 uses.

Importing this module puts a finder before Python's own ones. It loads every module unchanged, and
adds a `__getattr__` that looks up missing names in the table of `table.py`. It also supplies the
modules of detectron2 that have moved or do not exist here. The modules themselves do not know about
it, and the table is only imported when such a name is used.
"""

import importlib
import sys
from functools import partial
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]


def find_old_name(path: str, module: ModuleType, name: str) -> Any:
    """Return what detectron2 has as `name` in its module at `path`, such as "layers.nms".

    Raises:
        ImportError: it belongs to a part that is not supported; says what to use instead.
        AttributeError: the table has no such name either.
    """
    if not (name.startswith("__") and name.endswith("__")):
        from d2lite.compat import table  # not at the top: most programs never need it

        if reason := table.reason_it_is_gone(f"{path}.{name}"):
            raise ImportError(f"{PACKAGE}.{path}.{name} is not here: {reason}")
        if found := table.target(path, name):
            return _load(found)
    raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")


def _load(target: str) -> Any:
    """Return the object of "module:attribute", or the module of a plain module name."""
    module_name, _, attribute = target.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def _let_in(module: ModuleType, full_name: str) -> None:
    """Give a module a `__getattr__` for the old names of the module `full_name`."""
    path = full_name.partition(".")[2]
    module.__dict__.setdefault("__getattr__", partial(find_old_name, path, module))


class _MovedLoader(InspectLoader):
    """Loader that returns a module that has moved, as the same object."""

    def __init__(self, new_name: str):
        self._new_name = new_name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._old_name = spec.name
        module = importlib.import_module(self._new_name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has just set that of the old name
        _let_in(module, self._old_name)

    # `python -m d2lite.utils.develop` needs these.
    def get_code(self, fullname: str) -> CodeType | None:
        return find_spec(self._new_name).loader.get_code(self._new_name)

    def get_source(self, fullname: str) -> str | None:
        return find_spec(self._new_name).loader.get_source(self._new_name)


class _GoneLoader(Loader):
    """Loader that raises an ImportError with the reason why a module does not exist here."""

    def __init__(self, reason: str):
        self.reason = reason

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ImportError(f"{spec.name} is not here: {self.reason}", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("create_module always raises")


class _OldNamesFinder(MetaPathFinder):
    """Finder of the modules of this package, and of those that only detectron2 has."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE + "."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            is_outside = fullname.startswith(__name__.rpartition(".")[0] + ".")
            if spec.loader is not None and not is_outside:
                _let_in_after_loading(spec.loader)
            return spec
        from d2lite.compat import table

        path_here = fullname.partition(".")[2]
        if reason := table.reason_it_is_gone(path_here):
            return ModuleSpec(fullname, _GoneLoader(reason))
        if new_name := table.new_module(path_here):
            return ModuleSpec(fullname, _MovedLoader(new_name))
        return None


def _let_in_after_loading(loader: Loader) -> None:
    """Wrap `exec_module` of a loader, which otherwise stays the same."""
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        _let_in(module, module.__name__)

    loader.exec_module = exec_module


if not any(isinstance(finder, _OldNamesFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _OldNamesFinder())
