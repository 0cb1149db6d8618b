"""Importing this module makes `detectron2` an alias of `d2lite`, with all its modules."""

import importlib
import importlib.util
import logging
import sys
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType

from d2lite.compat import ALIAS_FOLDER

OLD, NEW = "detectron2", "d2lite"


class _AliasLoader(InspectLoader):
    """Loader that returns the existing module of the new name."""

    def __init__(self, found: ModuleSpec):
        self._found = found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._module = importlib.import_module(self._found.name)
        self._own_spec = self._module.__spec__
        logging.getLogger(self._found.name)  # some modules create theirs later
        # Loggers of modules get both names too: programs set the level of individual ones.
        loggers = logging.root.manager.loggerDict
        for name, logger in list(loggers.items()):
            if name.startswith(NEW + ".") and isinstance(logger, logging.Logger):
                loggers[OLD + name[len(NEW) :]] = logger
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # It was executed when it was imported under its own name. The import system has just
        # given it the spec of the alias, with which its relative imports would fail.
        module.__spec__ = self._own_spec

    # `python -m detectron2.utils.collect_env` needs these.
    def get_code(self, fullname: str) -> CodeType | None:
        return self._found.loader.get_code(self._found.name)

    def get_source(self, fullname: str) -> str | None:
        return self._found.loader.get_source(self._found.name)

    def is_package(self, fullname: str) -> bool:
        return self._found.submodule_search_locations is not None


class _AliasFinder(MetaPathFinder):
    """Finder for `detectron2` and all its modules."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname == OLD:
            return PathFinder.find_spec(OLD, [str(ALIAS_FOLDER)])
        if not fullname.startswith(OLD + "."):
            return None
        try:
            found = importlib.util.find_spec(NEW + fullname[len(OLD) :])
        except ModuleNotFoundError:
            found = None
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, _AliasLoader(found), origin=found.origin, is_package=is_package)


def install() -> None:
    """Make the alias in this process, once. It hides an installed detectron2.

    Raises:
        ImportError: detectron2 itself has already been imported.
    """
    if any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get(OLD)
    if loaded is not None and not is_alias(loaded):
        raise ImportError(
            "detectron2 itself has already been imported; import d2lite.compat.detectron2 first"
        )
    sys.meta_path.insert(0, _AliasFinder())
    # importlib.metadata finds the version there. Appended last, so that it hides nothing.
    sys.path.append(str(ALIAS_FOLDER))
    # The logger "detectron2" is that of d2lite, because programs configure it or its children.
    ours = logging.getLogger(NEW)
    loggers = logging.root.manager.loggerDict
    loggers[OLD] = ours
    for name, logger in loggers.items():  # those that already exist
        if name.startswith(OLD + ".") and getattr(logger, "parent", None) is logging.root:
            logger.parent = ours


def is_alias(module: ModuleType) -> bool:
    """Return whether a module called detectron2 is the alias, wherever it was loaded from."""
    return getattr(module, "ALIAS_OF", None) == NEW


install()
