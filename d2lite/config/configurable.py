"""The decorator `configurable`: call a class or function with a config instead of arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _CfgNode
from omegaconf import DictConfig

from d2lite.utils.errors import ArgumentError


def configurable(
    init_func: Callable | None = None, *, from_config: Callable[..., dict] | None = None
) -> Callable:
    """Make a class or function callable with a config instead of explicit arguments.

        class Head(nn.Module):
            @configurable
            def __init__(self, *, in_channels, num_convs=2): ...

            @classmethod
            def from_config(cls, cfg, input_shape):
                return {"in_channels": input_shape.channels, "num_convs": cfg.MODEL.NUM_CONVS}

        Head(in_channels=64)            # explicit
        Head(cfg, input_shape)          # arguments come from from_config
        Head(cfg, input_shape, num_convs=3)  # explicit arguments override it

        @configurable(from_config=lambda cfg: {"size": cfg.SIZE})
        def build(size): ...

    A call uses the config if its first argument, or its argument named `cfg`, is a CfgNode or
    DictConfig. Arguments that from_config does not accept are passed to the function itself.
    """
    if init_func is not None:
        return _configurable_init(init_func)
    if from_config is None:
        return configurable  # written as @configurable()
    if not callable(from_config):
        raise ArgumentError(f"from_config must be a function, not {from_config!r}")
    return functools.partial(_configurable_function, from_config=from_config)


def _configurable_init(init_func: Callable) -> Callable:
    if not inspect.isfunction(init_func) or init_func.__name__ != "__init__":
        raise ArgumentError(
            "@configurable without arguments decorates __init__ only; for a function write "
            "@configurable(from_config=...)"
        )

    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        # Also for calls without a config, so that the mistake shows at the first use of the class.
        from_config = getattr(type(self), "from_config", None)
        if from_config is None:
            raise AttributeError(
                f"the __init__ of {name} is @configurable, so {name} needs a classmethod "
                "from_config(cls, cfg, ...)"
            )
        if not inspect.ismethod(from_config):
            raise TypeError(f"{name}.from_config must be a classmethod: add @classmethod")
        if _called_with_cfg(*args, **kwargs):
            init_func(self, **_explicit_arguments(from_config, args, kwargs))
        else:
            init_func(self, *args, **kwargs)

    return wrapped


def _configurable_function(function: Callable, from_config: Callable[..., dict]) -> Callable:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _called_with_cfg(*args, **kwargs):
            return function(**_explicit_arguments(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config
    return wrapped


def _called_with_cfg(*args: Any, **kwargs: Any) -> bool:
    first = args[0] if args else kwargs.get("cfg")
    return isinstance(first, _CfgNode | DictConfig)


def _explicit_arguments(from_config: Callable[..., dict], args: tuple, kwargs: dict) -> dict:
    """Return the result of from_config, updated with the arguments that it does not accept."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        name = getattr(from_config, "__qualname__", repr(from_config))
        raise TypeError(f"the first parameter of {name} must be called 'cfg'")
    kinds = {parameter.kind for parameter in parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return from_config(*args, **kwargs)  # it accepts all arguments
    own = {key: value for key, value in kwargs.items() if key in parameters}
    explicit = {key: value for key, value in kwargs.items() if key not in parameters}
    return {**from_config(*args, **own), **explicit}
