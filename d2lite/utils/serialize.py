"""Sending callables that plain pickle refuses to another process."""

import pickle
from typing import Any

__all__ = ["PicklableWrapper"]


class PicklableWrapper:
    """Makes a lambda, a closure or a local class picklable, through cloudpickle where it is there.

    Calls and attributes are passed on to the wrapped object.
    """

    def __init__(self, obj: Any):
        """obj: the callable; a wrapped one is not wrapped twice."""
        while isinstance(obj, PicklableWrapper):
            obj = obj._obj
        self._obj = obj

    def __reduce__(self) -> tuple:
        return _unwrap_from_bytes, (_dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped object."""
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr == "_obj":  # not set yet: copying asks for attributes before __init__ ran
            raise AttributeError(attr)
        return getattr(self._obj, attr)


def _dumps(obj: Any) -> bytes:
    try:
        return pickle.dumps(obj)
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    try:
        import cloudpickle
    except ImportError as error:
        raise ImportError(
            f"{obj!r} cannot be sent to another process: define it at the top of a module, or "
            "`pip install cloudpickle`"
        ) from error
    return cloudpickle.dumps(obj)


def _unwrap_from_bytes(data: bytes) -> PicklableWrapper:
    return PicklableWrapper(pickle.loads(data))
