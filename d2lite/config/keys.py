"""Dotted keys such as "MODEL.WEIGHTS" in nested configs: CfgNode, DictConfig or plain dicts."""

from typing import Any

_MISSING = object()


def get_key(cfg: Any, full_key: str, default: Any = _MISSING) -> Any:
    """Return the value, or the group of keys, that a dotted key names.

    Args:
        cfg: a nested config of any kind.
        full_key: such as "MODEL.RPN.NMS_THRESH".
        default: returned if the key does not exist.
    Raises:
        KeyError: the key does not exist, and no default was given.
    """
    value = _find(cfg, full_key)
    if value is not _MISSING:
        return value
    if default is _MISSING:
        raise KeyError(f"the config has no key {full_key}")
    return default


def first_key(cfg: Any, *full_keys: str, default: Any = None) -> Any:
    """Return the value of the first of several dotted keys that a config has, or the default."""
    found = (_find(cfg, key) for key in full_keys)
    return next((value for value in found if value is not _MISSING), default)


def has_key(cfg: Any, full_key: str) -> bool:
    """Return whether a config has a dotted key."""
    return _find(cfg, full_key) is not _MISSING


def _find(cfg: Any, full_key: str) -> Any:
    value = cfg
    for part in full_key.split("."):
        value = value.get(part, _MISSING) if hasattr(value, "get") else _MISSING
    return value


def put_key(cfg: Any, full_key: str, value: Any) -> None:
    """Set a dotted key, and create the groups that it needs."""
    *groups, last = full_key.split(".")
    for part in groups:
        if part not in cfg:
            cfg[part] = type(cfg)()
        cfg = cfg[part]
    cfg[last] = value


def pop_key(cfg: Any, full_key: str) -> Any:
    """Remove a dotted key and the groups that become empty, and return its value."""
    group, _, last = full_key.rpartition(".")
    node = get_key(cfg, group) if group else cfg
    value = node.pop(last)
    if group and not node:
        pop_key(cfg, group)
    return value


def rename_key(cfg: Any, old: str, new: str) -> Any:
    """Move a key or a group of keys, if the old name exists; return the same config."""
    if has_key(cfg, old):
        put_key(cfg, new, pop_key(cfg, old))
    return cfg
