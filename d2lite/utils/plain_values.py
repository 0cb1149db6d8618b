"""Plain values from untrusted files: containers, numbers, strings, arrays."""

from collections.abc import Callable
from typing import Any

Parts = tuple[int, list[Any]]


def parts_of(value: Any) -> Parts | None:
    """Return the size of a plain container alone, and the containers in it; None for others."""
    if not isinstance(value, _CONTAINERS):
        return None
    entries = value.values() if isinstance(value, dict) else value
    texts = sum(len(entry) // 32 for entry in entries if isinstance(entry, str | bytes))
    return 1 + len(value) + texts, [entry for entry in entries if isinstance(entry, _CONTAINERS)]


def require_bounded(
    value: Any, *, depth: int, size: int, parts: Callable[[Any], Parts | None] = parts_of
) -> None:
    """Raise unless containers form a tree of bounded depth and size.

    A container that occurs several times counts each time, because code that walks over the value
    visits it each time. Otherwise a few nested references could expand to billions of values.

    Args:
        depth: maximum nesting of containers.
        size: maximum number of values: containers, their entries, every 32 letters of a string.
        parts: as `parts_of`, for containers of other kinds.

    Raises:
        ValueError: a limit is exceeded, or a container contains itself.
    """
    if parts(value) is None:
        return
    heights: dict[int, int] = {}
    sizes: dict[int, int] = {}  # of those that have been walked; the others contain what is walked
    # The value keeps all containers alive, so that their ids stay unique.
    waiting: list[tuple[Any, bool]] = [(value, False)]
    while waiting:
        container, walked = waiting.pop()
        key = id(container)
        if not walked and key in heights:
            continue
        own, inner = parts(container)
        if walked:
            heights[key] = 1 + max((heights[id(entry)] for entry in inner), default=0)
            sizes[key] = own + sum(sizes[id(entry)] for entry in inner)
            if heights[key] > depth:
                raise ValueError(f"containers nest deeper than {depth} levels")
            if sizes[key] > size:
                raise ValueError(f"references in it expand to more than {size} values")
            continue
        heights[key] = 0
        waiting.append((container, True))
        waiting.extend((entry, False) for entry in inner)
        if any(id(entry) in heights and id(entry) not in sizes for entry in inner):
            raise ValueError("a container in it contains itself")


_CONTAINERS = (dict, list, tuple, set, frozenset)
