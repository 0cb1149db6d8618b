"""Build the objects that configs describe: `{_target_: callable, argument: ...}`."""

import dataclasses
import functools
from collections import abc
from collections.abc import Callable
from typing import Any

import omegaconf
from omegaconf import DictConfig, ListConfig, OmegaConf

from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import convert_target_to_string, locate

# From 2.4 on, omegaconf has its own type for tuples; before, they become lists.
SEQUENCE_CONFIGS = (ListConfig, getattr(omegaconf, "TupleConfig", ListConfig))


def dump_dataclass(obj: Any) -> dict[str, Any]:
    """Return a config from which `instantiate` builds the same dataclass instance, nested ones
    included."""
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        raise ArgumentError(f"dump_dataclass takes an instance of a dataclass, not {obj!r}")
    dumped = {"_target_": convert_target_to_string(type(obj))}
    for field in dataclasses.fields(obj):
        dumped[field.name] = _dump_value(getattr(obj, field.name))
    return dumped


def _dump_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dump_dataclass(value)
    if isinstance(value, list | tuple):
        return [_dump_value(x) for x in value]
    return value


def instantiate(cfg: Any) -> Any:
    """Build what a config describes, from the inside out.

    Args:
        cfg: a dict-like with `_target_` (a callable, its dotted path, or a config that builds it)
            and its arguments; a list or tuple of these; or anything else, which is returned
            unchanged. `_recursive_: False` leaves the arguments as configs.
    Raises:
        TypeError: `_target_` is not callable (also an AssertionError), or does not take the
            arguments; the message names it.
    """
    if isinstance(cfg, SEQUENCE_CONFIGS):
        items = [instantiate(x) for x in cfg]
        if any(dataclasses.is_dataclass(x) for x in items):
            return items  # omegaconf would treat them as schemas
        # Plain numbers and strings stay a config, which is what a constructor stores in detectron2.
        return type(cfg)(items, flags={"allow_objects": True})
    if type(cfg) in (list, tuple):
        return type(cfg)(map(instantiate, cfg))
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(cfg._metadata.object_type):
        return OmegaConf.to_object(cfg)
    if isinstance(cfg, abc.Mapping) and "_target_" in cfg:
        return _call(cfg)
    return cfg


def _call(cfg: abc.Mapping) -> Any:
    # A copy, since a config can be used again. items() also resolves the interpolations.
    arguments = dict(cfg.items())
    target = instantiate(arguments.pop("_target_"))
    if arguments.pop("_recursive_", True):
        arguments = {key: instantiate(value) for key, value in arguments.items()}
    name = target if isinstance(target, str) else None
    if name is not None:
        target = locate(name)
    if not callable(target):
        raise ArgumentError(f"_target_ {name or target!r} is not a class or function")
    if name is None:
        qualified = getattr(target, "__qualname__", repr(target))
        name = f"{getattr(target, '__module__', '')}.{qualified}"
    try:
        return target(**arguments)
    except ArgumentError:
        raise  # its message is complete
    except TypeError as error:
        # Python's own message does not say which of many nested calls failed.
        raise TypeError(f"cannot call {name}: {error}") from error


def partial_of(function: Callable, **kwargs: Any) -> functools.partial:
    """Return `functools.partial` with keyword arguments only, as configs need it."""
    return functools.partial(function, **kwargs)
