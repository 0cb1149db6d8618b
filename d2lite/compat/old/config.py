"""Private helpers of detectron2's `configurable`."""

from collections.abc import Callable
from typing import Any

from d2lite.config.configurable import _explicit_arguments


def _get_args_from_config(
    from_config_func: Callable[..., dict], *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """Return the explicit arguments that `from_config_func` gives for a call with a config."""
    return _explicit_arguments(from_config_func, args, kwargs)
