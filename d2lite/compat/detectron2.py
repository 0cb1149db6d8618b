"""Importing this module makes `detectron2` another name of `d2lite`, with all its modules."""

import importlib
import importlib.util
import logging
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["install"]

OLD, NEW = "detectron2", "d2lite"


class _AliasLoader(Loader):
    """Hands out the module that exists under the new name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._module = importlib.import_module(NEW + spec.name[len(OLD) :])
        self._own_spec = self._module.__spec__
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # It ran when it was imported under its own name. The import system has just given it the
        # alias's spec, under which its relative imports would go wrong.
        module.__spec__ = self._own_spec


class _AliasFinder(MetaPathFinder):
    """Answers for `detectron2` and everything below it."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != OLD and not fullname.startswith(OLD + "."):
            return None
        try:
            found = importlib.util.find_spec(NEW + fullname[len(OLD) :])
        except ModuleNotFoundError:
            found = None
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, _AliasLoader(), is_package=is_package)


def install() -> None:
    """Make the alias, once. A detectron2 that is installed too is hidden by it."""
    if any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get(OLD)
    if loaded is not None and loaded is not sys.modules.get(NEW) and not _is_doorway(loaded):
        raise ImportError(
            "detectron2 itself is imported already; import d2lite.compat.detectron2 before it"
        )
    sys.meta_path.insert(0, _AliasFinder())
    sys.modules[OLD] = importlib.import_module(NEW)
    _alias_logger()


def _alias_logger() -> None:
    """Make the logger "detectron2" the one of d2lite, since programs set it up or log below it."""
    ours = logging.getLogger(NEW)
    loggers = logging.root.manager.loggerDict
    loggers[OLD] = ours
    for name, logger in loggers.items():  # those that exist already
        if name.startswith(OLD + ".") and getattr(logger, "parent", None) is logging.root:
            logger.parent = ours


def _is_doorway(module: ModuleType) -> bool:
    return getattr(module, "DOORWAY", False)


install()
