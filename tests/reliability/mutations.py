"""Damage for files: to their bytes, and to the values in them."""

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["damage_bytes", "damage_value"]


def damage_bytes(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Change the bytes of a file in one to four ways.

    Args:
        content: the file.
        others: more files of its kind, for splices.
        rng: decides what is changed.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_BYTE_CHANGES)(content, others, rng)
    return content


def _flip_bits(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replace_bytes(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    start, stop = _span(content, rng, longest=8)
    value = rng.choice((b"\0", b"\xff", b"\x80", b"\x7f", b"0", b"9", b"\n", b'"', b"[", b"{"))
    return content[:start] + value * (stop - start) + content[stop:]


def _truncate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _drop_start(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def _cut_out(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    start, stop = _span(content, rng)
    return content[:start] + content[stop:]


def _repeat(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    start, stop = _span(content, rng)
    times = min(rng.choice((2, 3, 50)), 1 + 2**16 // max(1, stop - start))
    return content[:start] + content[start:stop] * times + content[stop:]


def _splice(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice([content, *others])
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _swap(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_span(content, rng), _span(content, rng)))
    if b > c:
        return content
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _insert(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 4, 64))) + content[at:]


def _write_number(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A number of 1 to 8 bytes that sizes and offsets break on, over what was there."""
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, -1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 2**31, 2**24))
    at = rng.randrange(max(1, len(content)))
    order = rng.choice(("little", "big"))
    return content[:at] + (number % 256**width).to_bytes(width, order) + content[at + width :]


def _span(content: bytes, rng: random.Random, longest: int = 2**10) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    length = rng.choice((1, 2, 4, 16, 64, longest))
    return start, min(len(content), start + min(length, longest))


_BYTE_CHANGES: tuple[Callable[[bytes, list[bytes], random.Random], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _replace_bytes,
    _truncate,
    _drop_start,
    _cut_out,
    _repeat,
    _splice,
    _swap,
    _insert,
    _write_number,
)

LEAVES: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    7,
    0.5,
    1e10,
    -1e10,
    1e300,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63),
    10**25,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "1",
    "nan",
    "x" * 300,
    "a\nb\x1b[31m\0",
    "../../up",
    "/abs/olute",
    "\u202egnp.exe",
    [],
    {},
    [[]],
    [None],
    [1, 2],
    {"a": 1},
    [0.0] * 40,
]
"""What replaces a value anywhere in a file: other kinds, and numbers at the ends of their range."""


def damage_value(value: Any, rng: random.Random, leaves: list[Any] = LEAVES) -> Any:
    """A copy of nested dicts and lists in which one to three values are changed.

    A value is replaced, removed, repeated, wrapped in a list, exchanged with another one, or put
    under another key.
    """
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(root))
        container, key = rng.choice(places)
        other, other_key = rng.choice(places)
        kind = rng.choice(
            ("leaf", "leaf", "leaf", "tweak", "tweak", "drop", "swap", "copy", "wrap")
        )
        if kind == "leaf":
            container[key] = copy.deepcopy(rng.choice(leaves))
        elif kind == "tweak":
            container[key] = _tweaked(container[key], rng)
        elif kind == "drop" and container is not root:
            del container[key]
        elif kind == "swap":
            first, second = container[key], other[other_key]
            container[key], other[other_key] = copy.deepcopy(second), copy.deepcopy(first)
        elif kind == "copy" and isinstance(container, list) and container is not root:
            container[key:key] = [copy.deepcopy(container[key])] * rng.choice((1, 1, 30))
        elif kind == "copy" and isinstance(container, dict):
            container[rng.choice(("id", "name", "a", 5))] = copy.deepcopy(container[key])
        else:
            container[key] = [container[key]]
    return root[0]


def _places(value: Any):
    """(container, key) of all that stands in a list or dict, at any depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _tweaked(value: Any, rng: random.Random) -> Any:
    """A value of the same kind, near the one that is there or near an end of the range."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice(
            (-value, value + 1, value - 1, value * 2, value / 3, value * 1e6, str(value))
        )
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return (
            value[:at] + rng.choice(("", "\0", "\n", "é", "/", "9", "~", value)) + value[at + 1 :]
        )
    if isinstance(value, list):
        return value[::-1] if rng.random() < 0.5 else value[: rng.randrange(len(value) + 1)]
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        return value[None]
    if isinstance(value, torch.Tensor):
        changes = (value[:0], value.flatten(), value.double(), value.to(torch.int64), value[None])
        return rng.choice((*changes, value * math.nan, value.tolist()))
    if isinstance(value, np.ndarray):
        changes = (value[:0], value.ravel(), value.astype(np.int64), value[None])
        return rng.choice((*changes, value * math.nan, value.tolist()))
    return value
