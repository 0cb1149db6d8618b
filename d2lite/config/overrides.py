"""Command-line overrides of a LazyConfig: key=value, +key=value, ~key."""

import re
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from d2lite.config.instantiate import SEQUENCE_CONFIGS
from d2lite.utils.errors import file_errors, quoted, shortened
from d2lite.utils.registry import UnknownNameError, did_you_mean

_OVERRIDE = re.compile(r"^(?P<add>\+{0,2})(?P<key>[^=~+\s-][^=~+\s]*)=(?P<value>.*)$", re.DOTALL)


def apply_override(cfg: DictConfig, override: str) -> None:
    """Apply `key=value`, `+key=value` or `~key` to a config.

    Raises:
        ValueError: the override has none of these forms, or changes part of a tuple.
        KeyError: the key does not exist.
    """
    if override.startswith("~"):
        key = override[1:]
        _check_path(cfg, key, may_add=False)
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not OmegaConf.is_config(node) or not _has(node, last):
            raise UnknownNameError(f"Override ~{shortened(key)}: no such key to remove")
        del node[int(last) if isinstance(node, SEQUENCE_CONFIGS) else last]
        return
    match = _OVERRIDE.match(override)
    if match is None:
        raise ValueError(
            f"Cannot read the override {quoted(override)}; write key=value, +key=value to add, "
            "or ~key to remove"
        )
    key = match["key"]
    _check_path(cfg, key, may_add=bool(match["add"]))
    where, problem = f"Override {shortened(key)}", f"cannot be set to {quoted(match['value'])}"
    with file_errors(ValueError, where, problem):
        OmegaConf.update(cfg, key, _parse(match["value"]), merge=True, force_add=True)


def _parse(text: str) -> Any:
    """Parse a value as omegaconf's yaml does (1e-3 is a number, ${x} a reference)."""
    if text == "":
        return ""
    if text[0] in "[{":
        # {a:1} is a mapping on the command line, though yaml wants {a: 1}
        text = re.sub(r"(?<=[\w'\"]):(?=[^\s/])", ": ", text)
    try:
        parsed = OmegaConf.create(f"value: {text}")
        return OmegaConf.to_container(parsed, resolve=False)["value"]
    except (yaml.YAMLError, TypeError):
        return text  # such as "a: b", a string and not yaml


def _check_path(cfg: DictConfig, key: str, may_add: bool) -> None:
    """Raise an error if `key` does not exist and is not an argument of a call."""
    node: Any = cfg
    override = f"Override {shortened(key)}"
    parts = key.replace("[", ".").replace("]", "").split(".")
    for depth, part in enumerate(parts):
        path = shortened(".".join(parts[:depth]))
        if not OmegaConf.is_config(node):
            raise UnknownNameError(
                f"{override}: {path} is a single value ({quoted(node)}) and has no key "
                f"{quoted(part)}"
            )
        if not _has(node, part):
            # A call may take more arguments than the config lists; instantiate reports wrong ones.
            if may_add or "_target_" in node:
                return
            hint = did_you_mean(part, map(str, node)) if isinstance(node, DictConfig) else ""
            where = f"{path} has" if path else "the config has"
            raise UnknownNameError(
                f"{override}: {where} no {quoted(part)}.{hint} To add it, write "
                f"+{shortened(key)}=..."
            )
        if depth == len(parts) - 1 and not isinstance(node, ListConfig | DictConfig):
            raise ValueError(
                f"{override}: {path} is a tuple, which can only be set as a whole: {path}=[...]"
            )
        node = node[int(part) if isinstance(node, SEQUENCE_CONFIGS) else part]


def _has(node: Any, part: str) -> bool:
    if isinstance(node, SEQUENCE_CONFIGS):
        return part.isdigit() and int(part) < len(node)
    return part in node
