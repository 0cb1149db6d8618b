"""Importing this module makes `detectron2` another name of `d2lite`, with all its modules."""

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
    """Hands out the module that exists under the new name."""

    def __init__(self, found: ModuleSpec):
        self._found = found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._module = importlib.import_module(self._found.name)
        self._own_spec = self._module.__spec__
        logging.getLogger(self._found.name)  # some modules make theirs later
        # The loggers of modules get both names too: programs set the level of a single module's.
        loggers = logging.root.manager.loggerDict
        for name, logger in list(loggers.items()):
            if name.startswith(NEW + ".") and isinstance(logger, logging.Logger):
                loggers[OLD + name[len(NEW) :]] = logger
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # It ran when it was imported under its own name. The import system has just given it the
        # alias's spec, under which its relative imports would go wrong.
        module.__spec__ = self._own_spec

    # `python -m detectron2.utils.collect_env` asks for these.
    def get_code(self, fullname: str) -> CodeType | None:
        return self._found.loader.get_code(self._found.name)

    def get_source(self, fullname: str) -> str | None:
        return self._found.loader.get_source(self._found.name)

    def is_package(self, fullname: str) -> bool:
        return self._found.submodule_search_locations is not None


class _AliasFinder(MetaPathFinder):
    """Answers for `detectron2` and everything below it."""

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
    """Make the alias in this process, once. A detectron2 that is installed too is hidden by it.

    Raises:
        ImportError: detectron2 itself is imported already.
    """
    if any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get(OLD)
    if loaded is not None and not is_alias(loaded):
        raise ImportError(
            "detectron2 itself is imported already; import d2lite.compat.detectron2 before it"
        )
    sys.meta_path.insert(0, _AliasFinder())
    # importlib.metadata looks there for the version. At the end, so that nothing is hidden.
    sys.path.append(str(ALIAS_FOLDER))
    # The logger "detectron2" is the one of d2lite, since programs set it up or log below it.
    ours = logging.getLogger(NEW)
    loggers = logging.root.manager.loggerDict
    loggers[OLD] = ours
    for name, logger in loggers.items():  # those that exist already
        if name.startswith(OLD + ".") and getattr(logger, "parent", None) is logging.root:
            logger.parent = ours


def is_alias(module: ModuleType) -> bool:
    """Whether a module called detectron2 is the alias, wherever it was loaded from."""
    return getattr(module, "ALIAS_OF", None) == NEW


install()
