"""Lazy configs as text: plain values for yaml, and Python-like lines for reading."""

import dataclasses
import functools
import logging
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from d2lite.config.instantiate import dump_dataclass
from d2lite.utils.registry import convert_target_to_string, locate

__all__ = ["as_plain_values", "as_python"]

logger = logging.getLogger(__name__)

_PLAIN = (str, int, float, bool, type(None))


def as_plain_values(cfg: Any) -> Any:
    """A config as dicts, lists, numbers and strings, from which `instantiate` builds the same.

    Interpolations stay as they are. Classes and functions become calls of `locate`, partial
    functions calls of `partial_of`.
    """
    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=False)
    return _plain(cfg, "")


def _plain(value: Any, path: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {str(key): _plain_entry(key, x, f"{path}.{key}") for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x, f"{path}.{i}") for i, x in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dump_dataclass(value), path)
    if isinstance(value, functools.partial) and not value.args:
        function = _plain(value.func, path)
        target = "d2lite.config.instantiate.partial_of"
        return {"_target_": target, "function": function, **_plain(value.keywords, path)}
    name = _dotted_path(value)
    if name is not None:
        return {"_target_": "d2lite.utils.registry.locate", "name": name}
    logger.warning(
        "Config key %s holds %r, which yaml cannot; it is saved as text only. Give it a name at "
        "the top of a module to have it loaded back.",
        path.lstrip("."),
        value,
    )
    return repr(value)


def _plain_entry(key: Any, value: Any, path: str) -> Any:
    if key == "_target_" and callable(value):
        return _dotted_path(value) or repr(value)
    return _plain(value, path)


def _dotted_path(value: Any) -> str | None:
    """The path by which `locate` finds a class or function, None where there is none."""
    if not (callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__module__")):
        return None
    name = convert_target_to_string(value)
    try:
        found = locate(name)
    except ImportError:
        return None
    return name if found == value else None


def as_python(cfg: Any, prefix: str = "cfg.") -> str:
    """A config as Python-like lines: calls are written as calls, groups as one line a setting."""
    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=True)
    lines = _lines(cfg, prefix.rstrip(".").split(".") if prefix else [])
    return "\n".join(lines) + "\n"


def _lines(value: Any, path: list[str]) -> list[str]:
    if not isinstance(value, dict) or "_target_" in value or not (path or value):
        return [f"{'.'.join(path)} = {_expression(value)}"]
    if not all(isinstance(key, str) and key.isidentifier() for key in value):
        return [f"{'.'.join(path)} = {_expression(value)}"]
    return [line for key, x in value.items() for line in _lines(x, [*path, key])]


def _expression(value: Any) -> str:
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict) and "_target_" in value:
        target = value["_target_"]
        name = target if isinstance(target, str) else convert_target_to_string(target)
        arguments = (f"{k}={_expression(x)}" for k, x in value.items() if k != "_target_")
        return f"{name}({', '.join(arguments)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_expression(x)}" for k, x in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_expression(x) for x in value) + "]"
    return _dotted_path(value) or repr(value)
