"""The layout of a folder is detected, or the message says what was looked for."""

import pytest

from d2lite.data.layouts import LAYOUTS, find_layout, write_folder
from tests.data.layouts.tiny import draw, labeled


def test_unknown_layouts_say_what_was_looked_for(tmp_path):
    draw(tmp_path / "a.png")
    with pytest.raises(ValueError) as error:
        find_layout(str(tmp_path))
    message = str(error.value)
    assert "no known layout" in message and "Found: 1 x .png" in message
    assert all(layout.looks_like in message for layout in LAYOUTS.values())
    with pytest.raises(ValueError, match="folder or file not found"):
        find_layout(str(tmp_path / "none"))


def test_two_layouts_in_one_folder_are_not_guessed_at(tmp_path):
    write_folder(labeled(tmp_path), str(tmp_path / "out" / "a"), "coco")
    write_folder(labeled(tmp_path), str(tmp_path / "out" / "b"), "voc")
    with pytest.raises(ValueError, match=r"say which to read .*--layout coco"):
        find_layout(str(tmp_path / "out"))
    assert find_layout(str(tmp_path / "out" / "b")) == "voc"
