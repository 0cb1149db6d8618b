"""Plain values of files that nobody has vouched for: containers, numbers, strings, arrays."""

from typing import Any

__all__ = ["require_bounded"]

_CONTAINERS = (dict, list, tuple, set, frozenset)


def require_bounded(value: Any, *, depth: int, size: int) -> None:
    """Raise unless containers form a tree of bounded depth and size.

    A container that occurs several times counts each time, as everything that walks over the value
    meets it. A few lines of nested references would otherwise stand for billions of values.

    Args:
        depth: the most containers within each other.
        size: the most values: each container, each of its entries, every 32 letters of a text.

    Raises:
        ValueError: says which limit is exceeded, or that a container contains itself.
    """
    if not isinstance(value, _CONTAINERS):
        return
    heights: dict[int, int] = {}  # 0 while the container is being walked
    sizes: dict[int, int] = {}
    # The value itself keeps all containers alive, so that their ids stay theirs.
    waiting: list[tuple[Any, bool]] = [(value, False)]
    while waiting:
        container, walked = waiting.pop()
        key = id(container)
        entries = container.values() if isinstance(container, dict) else container
        inner = [entry for entry in entries if isinstance(entry, _CONTAINERS)]
        if walked:
            heights[key] = 1 + max((heights[id(entry)] for entry in inner), default=0)
            texts = sum(len(entry) // 32 for entry in entries if isinstance(entry, str | bytes))
            sizes[key] = len(container) + 1 + texts + sum(sizes[id(entry)] for entry in inner)
            if heights[key] > depth:
                raise ValueError(f"containers nest deeper than {depth} levels")
            if sizes[key] > size:
                raise ValueError(f"references in it expand to more than {size} values")
        elif key not in heights:
            heights[key] = 0
            waiting.append((container, True))
            waiting.extend((entry, False) for entry in inner)
            if any(id(entry) in heights and id(entry) not in sizes for entry in inner):
                raise ValueError("a container in it contains itself")
