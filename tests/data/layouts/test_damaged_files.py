"""Files with any damage are read, or refused in one line that names a file or folder."""

import json
import random
from pathlib import Path

import pytest

from d2lite.data.layouts import LAYOUTS, read_folder, write_folder
from tests.data.layouts.tiny import SQUARE, labeled, thing

TRIES = 25
VALUES = (None, "", -1, 1e308, [], {}, "x", True, [[]], {"a": 1}, 0, 3.5, "\0", [None], 10**30)
TEXTS = (b"\n", b",", b"-", b"nan", b"1e999", b'"', b"<", b">", b"\0", b"\xff\xfe", b"\xc3\x28",
         b"9" * 500, b"{", b"[", b"&x;", b"../")  # fmt: skip


def places(value, path=()):
    """The paths of all values within a JSON value."""
    if path:
        yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from places(inner, (*path, key))


def spoil_json(text: str, rng: random.Random) -> bytes:
    content = json.loads(text)
    *before, last = rng.choice(list(places(content)))
    parent = content
    for key in before:
        parent = parent[key]
    if rng.random() < 0.25:
        del parent[last]
    else:
        parent[last] = rng.choice(VALUES)
    return json.dumps(content).encode()


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    if rng.random() < 0.2:
        return content[:at]
    return content[:at] + rng.choice(TEXTS) + content[at + rng.choice((0, 1, 20)) :]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_damage_is_an_error_of_the_user(layout, tmp_path):
    rng = random.Random(f"{layout} 1")
    points = {"keypoint_names": ["left", "right"], "keypoint_flip_map": [("left", "right")]}
    rows = [thing(0, segmentation=[SQUARE], keypoints=[10.5, 11.25, 2, 20.5, 20.5, 1])]
    folder = tmp_path / "data"
    write_folder(labeled(tmp_path, lambda i: rows, keypoints=points), str(folder), layout)
    images = {Path(one["file_name"]) for one in read_folder(str(folder)).records()}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path not in images)
    refused = 0
    for _ in range(TRIES):
        path = rng.choice(files)
        content = path.read_bytes()
        as_json = path.suffix == ".json" and rng.random() < 0.7
        path.write_bytes(
            spoil_json(content.decode(), rng) if as_json else spoil_bytes(content, rng)
        )
        try:
            read_folder(str(folder), layout).metadata()
        except (ValueError, OSError) as error:
            refused += 1
            assert "\n" not in str(error) and str(folder) in str(error)
        path.write_bytes(content)
    assert refused > TRIES / 5
