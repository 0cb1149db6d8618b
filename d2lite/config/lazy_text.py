"""Lazy configs as text: plain values for yaml, and Python-like lines for reading."""

import dataclasses
import functools
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from d2lite.config.instantiate import dump_dataclass
from d2lite.utils.registry import convert_target_to_string, locate

_LINE_LENGTH = 88
_PLAIN = (str, int, float, bool, type(None))


def as_plain_values(cfg: Any) -> tuple[Any, list[str]]:
    """Return a config as dicts, lists, numbers and strings that `instantiate` can still build.

    Interpolations are kept. Classes and functions become calls of `locate`, partial functions calls
    of `partial_of`.

    Returns:
        The plain config, and the keys whose values could only be stored as text.
    """
    if OmegaConf.is_config(cfg):
        # Dataclasses stay as they are, to keep their types.
        cfg = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    as_text: list[str] = []
    return _plain(cfg, "", as_text), as_text


def _plain(value: Any, path: str, as_text: list[str]) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        entries = {}
        for key, x in value.items():
            name = _dotted_path(x) if key == "_target_" and callable(x) else None
            entries[str(key)] = name or _plain(x, f"{path}.{key}", as_text)
        return entries
    if isinstance(value, list | tuple):
        return [_plain(x, f"{path}.{i}", as_text) for i, x in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dump_dataclass(value), path, as_text)
    if isinstance(value, functools.partial) and not value.args:
        function = _plain(value.func, path, as_text)
        target = "d2lite.config.instantiate.partial_of"
        return {"_target_": target, "function": function, **_plain(value.keywords, path, as_text)}
    name = _dotted_path(value)
    if name is not None:
        return {"_target_": "d2lite.utils.registry.locate", "name": name}
    as_text.append(path.lstrip("."))
    return repr(value)


def _dotted_path(value: Any) -> str | None:
    """Return the path by which `locate` finds a class or function, or None."""
    if not (callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__module__")):
        return None
    name = convert_target_to_string(value)
    try:
        found = locate(name)
    except ImportError:
        return None
    return name if found == value else None


def as_python(cfg: Any, prefix: str = "cfg.") -> str:
    """Return a config as Python-like lines: calls as calls, groups as one line per setting.

    Keys are sorted, and long lines are broken inside brackets, one entry per line.
    """
    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=True)
    lines = _lines(cfg, prefix.rstrip(".").split(".") if prefix else [])
    return "\n".join(lines) + "\n"


def _lines(value: Any, path: list[str]) -> list[str]:
    is_group = isinstance(value, dict) and "_target_" not in value and (path or value)
    if not is_group or not all(isinstance(key, str) and key.isidentifier() for key in value):
        return [_expression(value, f"{'.'.join(path)} = ")]
    return [line for key, x in sorted(value.items()) for line in _lines(x, [*path, key])]


def _expression(value: Any, start: str = "", indent: str = "", end: str = "") -> str:
    """Return `start`, a value and `end`: on one line if it fits, else one entry per line."""
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict) and "_target_" in value:
        target = value["_target_"]
        if isinstance(target, str):
            name = target
        elif hasattr(target, "__qualname__"):
            name = convert_target_to_string(target)
        else:  # the target is itself the result of a call
            name = _expression(target)
        entries = [(f"{key}=", x) for key, x in sorted(value.items(), key=str) if key != "_target_"]
        opening, closing = f"{name}(", ")"
    elif isinstance(value, dict):
        entries = [(f"{_quoted(key)}: ", x) for key, x in sorted(value.items(), key=str)]
        opening, closing = "{", "}"
    elif isinstance(value, list | tuple):
        entries = [("", x) for x in value]
        opening, closing = "[", "]"
    else:
        return f"{indent}{start}{_dotted_path(value) or _quoted(value)}{end}"
    # An entry that does not fit on one line contains line breaks, so this value needs them too.
    inner = ", ".join(_expression(x, start=key, indent="").strip() for key, x in entries)
    line = f"{indent}{start}{opening}{inner}{closing}{end}"
    if (len(line) <= _LINE_LENGTH and "\n" not in line) or not entries:
        return line
    broken = [_expression(x, key, f"{indent}    ", ",") for key, x in entries]
    return "\n".join([f"{indent}{start}{opening}", *broken, f"{indent}{closing}{end}"])


def _quoted(value: Any) -> str:
    """Return the repr, with double quotes around a string if that needs no escapes."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text:
        return f'"{text[1:-1]}"'
    return text
