"""Sending callables that plain pickle does not support to another process."""

from typing import Any

import cloudpickle


class PicklableWrapper:
    """Wrapper that makes a lambda, a closure or a local class picklable, with cloudpickle.

    Calls and attributes are passed on to the wrapped object.
    """

    def __init__(self, obj: Any):
        """obj: the callable; a wrapped one is not wrapped twice."""
        while isinstance(obj, PicklableWrapper):
            obj = obj._obj
        self._obj = obj

    def __reduce__(self) -> tuple:
        # cloudpickle is also used if pickle would work: it sends functions of the main module by
        # value, because a process spawned by a notebook does not have that module.
        return _wrap_from_bytes, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped object."""
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr == "_obj":  # not set yet: copying looks up attributes before __init__ has run
            raise AttributeError(attr)
        return getattr(self._obj, attr)


def _wrap_from_bytes(data: bytes) -> PicklableWrapper:
    return PicklableWrapper(cloudpickle.loads(data))
