"""Convert training batches to plain values that checkpoints can contain, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from d2lite.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    RotatedBoxes,
)
from d2lite.utils.errors import quoted

STRUCTURES: dict[str, tuple[type, tuple[str, ...]]] = {
    kind.__name__: (kind, attributes)
    for kind, attributes in (
        (Boxes, ("tensor",)),
        (RotatedBoxes, ("tensor",)),
        (BitMasks, ("tensor",)),
        (ROIMasks, ("tensor",)),
        (Keypoints, ("tensor",)),
        (PolygonMasks, ("polygons",)),
        (ImageList, ("tensor", "image_sizes")),
    )
}
"""Classes by name, with the attributes that their constructors take. Programs can add their own."""

_LEAVES = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def to_plain(value: Any) -> tuple[Any, list[str]]:
    """Convert a batch to tensors (on the CPU), numbers, strings and containers.

    Each object that is not a number or string becomes a pair (tag, content).

    Returns:
        The plain value, and the kinds of objects that could not be converted.
    """
    lost: list[str] = []
    return _plain(value, lost), lost


def _plain(value: Any, lost: list[str]) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, BoxMode):
        return "BoxMode", int(value)
    if isinstance(value, torch.Tensor):
        return "tensor", value.detach().cpu()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return "array", torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return "dict", {k: _plain(v, lost) for k, v in value.items() if type(k) in _LEAVES}
    if isinstance(value, list | tuple):
        return "list" if kind is list else "tuple", [_plain(item, lost) for item in value]
    if isinstance(value, Instances):
        fields = {name: _plain(field, lost) for name, field in value.get_fields().items()}
        return "Instances", {"image_size": tuple(map(int, value.image_size)), "fields": fields}
    if STRUCTURES.get(kind.__name__, (None,))[0] is kind:
        attributes = STRUCTURES[kind.__name__][1]
        return kind.__name__, [_plain(getattr(value, name), lost) for name in attributes]
    lost.append(f"{kind.__module__}.{kind.__qualname__}")
    return "lost", lost[-1]


def from_plain(plain: Any) -> Any:
    """Restore a value converted by `to_plain`, with None for objects that could not be converted.

    Raises:
        ValueError: `plain` was not made by `to_plain`.
    """
    if type(plain) in _LEAVES:
        return plain
    if not (isinstance(plain, tuple) and len(plain) == 2 and isinstance(plain[0], str)):
        raise ValueError(f"it has a {type(plain).__name__} where a value and its kind are expected")
    tag, content = plain
    if tag in STRUCTURES:
        return STRUCTURES[tag][0](*map(from_plain, content))
    if tag not in _READERS:
        raise ValueError(f"it has a value of the unknown kind {quoted(tag)}")
    return _READERS[tag](content)


def _instances(content: dict) -> Instances:
    fields = {name: from_plain(field) for name, field in content["fields"].items()}
    return Instances(content["image_size"], **fields)


_READERS = {
    "BoxMode": BoxMode,
    "tensor": lambda content: content,
    "array": lambda content: content.numpy(),
    "dict": lambda content: {key: from_plain(item) for key, item in content.items()},
    "list": lambda content: [from_plain(item) for item in content],
    "tuple": lambda content: tuple(from_plain(item) for item in content),
    "Instances": _instances,
    "lost": lambda content: None,
}
