"""Registries of named objects, and helpers that turn names into objects and back."""

import difflib
import importlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fvcore.common.registry import Registry as _Registry

from d2lite.utils.errors import ArgumentError, quoted
from d2lite.utils.renamed import RENAMED_OBJECTS

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UnknownNameError(KeyError):
    """A KeyError that prints its message; a plain KeyError prints the repr of it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Registry(_Registry):
    """Registry of classes or functions, which register themselves under their own names.

        BACKBONE_REGISTRY = Registry("BACKBONE")

        @BACKBONE_REGISTRY.register()
        def build_tiny_backbone(cfg, input_shape): ...

    Registering a name twice raises an AssertionError.
    """

    def __init__(self, name: str, *, config_key: str = "") -> None:
        """
        Args:
            name: name of the registry, for messages.
            config_key: config key that selects an entry, for messages.
        """
        super().__init__(name)
        self._config_key = config_key

    def get(self, name: str) -> Any:
        """Return the object registered as `name`.

        Raises:
            UnknownNameError: a KeyError that suggests similar names.
        """
        if name in self:
            return self._obj_map[name]
        where = f"{self._config_key}: " if self._config_key else ""
        renamed = RENAMED_OBJECTS.get(name)
        if renamed in self:
            logger.warning("%s%s is now called %s", where, name, renamed)
            return self._obj_map[renamed]
        known = sorted(self._obj_map)
        hint = did_you_mean(name, known) or f" It has: {', '.join(known) or 'nothing yet'}."
        raise UnknownNameError(
            f"{where}No object named {name!r} in the {self._name} registry.{hint}"
        )


def check_choice(what: str, name: Any, choices: Iterable[Any]) -> None:
    """Raise unless `name` is one of the choices.

    Args:
        what: the argument or config key that has `name` as its value, for the message.
    Raises:
        ArgumentError: the message lists the choices and suggests similar ones.
    """
    known = list(choices)
    if name not in known:
        raise ArgumentError(f"{what} is {name!r}; use one of {known}.{did_you_mean(name, known)}")


def check_choices(what: str, names: Iterable[Any], choices: Iterable[Any]) -> None:
    """Raise unless all names of a list are among the choices; `what` has the list as its value.

    Raises:
        ArgumentError: names the first that is not, and lists the choices with the nearest one.
    """
    known = list(choices)
    for name in names:
        if name not in known:
            raise ArgumentError(
                f"{what} has {name!r}; use some of {known}.{did_you_mean(name, known)}"
            )


def lookup(what: str, name: Any, table: Mapping[Any, T]) -> T:
    """Return the entry of a table that an argument or config key, `what`, names.

    Raises:
        ArgumentError: there is none; lists the names of the table, with the nearest one.
    """
    check_choice(what, name, sorted(table))
    return table[name]


def did_you_mean(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Return a sentence with the names most similar to `name`, or "" if none is similar.

    Returns:
        such as " Did you mean 'RPN' or 'RRPN'?", with a leading space, to append to a message.
    """
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(str(candidate).lower(), str(candidate))
    wanted = str(name).lower()
    near = difflib.get_close_matches(wanted, by_lower, n=limit, cutoff=0.6)
    if not near:
        return ""
    likeness = {key: difflib.SequenceMatcher(None, key, wanted).ratio() for key in near}
    # Names that are much less similar than the best one only distract from it.
    near = [key for key in near if likeness[key] > max(likeness.values()) - 0.1]
    near.sort(key=lambda key: (-likeness[key], key))
    return f" Did you mean {' or '.join(quoted(by_lower[key]) for key in near)}?"


def locate(name: str) -> Any:
    """Return the object at a dotted path such as "torch.nn.Linear" or "pkg.module.Class.method".

    Raises:
        ImportError: no module on the path can be imported, or it lacks the attribute; the message
            tells which part failed.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ImportError(f"{name!r} is not a dotted path to an object, such as 'torch.nn.Linear'")
    for cut in range(len(parts), 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # Continue if it (or a parent package) is missing, but not if one of its imports is.
            missing = error.name or ""
            if module_name == missing or module_name.startswith(missing + "."):
                continue
            raise
        return _walk_attributes(found, parts[cut:], name)
    raise ImportError(f"Cannot locate {name!r}: there is no module {parts[0]!r}")


def _walk_attributes(found: Any, attributes: list[str], full_name: str) -> Any:
    for attribute in attributes:
        if not hasattr(found, attribute):
            where = getattr(found, "__name__", type(found).__name__)
            hint = did_you_mean(attribute, dir(found))
            raise ImportError(f"Cannot locate {full_name!r}: {where} has no {attribute!r}.{hint}")
        found = getattr(found, attribute)
    return found


def convert_target_to_string(target: Any) -> str:
    """Return the shortest dotted path by which `locate` finds `target` again.

    A class defined in `d2lite.modeling.backbone.fpn` but also found in `d2lite.modeling` is named
    by the latter, so that stored configs survive a move between files.
    """
    qualname, module = target.__qualname__, target.__module__
    parts = module.split(".")
    for cut in range(1, len(parts)):
        candidate = f"{'.'.join(parts[:cut])}.{qualname}"
        try:
            if locate(candidate) is target:
                return candidate
        except ImportError:
            continue
    return f"{module}.{qualname}"
