"""The examples of `docs/own_data.md` are read as it says."""

import re
from pathlib import Path

import pytest

from d2lite.data.layouts import LAYOUTS, find_layout, read_folder
from tests.data.layouts.tiny import draw

DOCS = Path(__file__).parents[3] / "docs" / "own_data.md"
TEXT = DOCS.read_text(encoding="utf-8")
SECTIONS = {
    title: body
    for title, _, body in (part.partition("\n") for part in TEXT.split("\n## "))
    if title in {layout.title for layout in LAYOUTS.values()}
}


def test_each_layout_has_a_section_and_a_name_in_the_table():
    assert set(SECTIONS) == {layout.title for layout in LAYOUTS.values()}
    table = re.search(r"\| layout \|.*?\n\n", TEXT, re.DOTALL)[0]
    assert re.findall(r"`(\w+)`", table.partition("\n")[2]) == list(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_examples_are_read(name, tmp_path):
    section = SECTIONS[LAYOUTS[name].title]
    files = re.findall(r"^`(photos/\S+)`\n\n```\w+\n(.*?)```$", section, re.DOTALL | re.MULTILINE)
    for path, content in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    images = set(re.findall(r"`(photos/\S+\.jpg)`", section))
    for number, path in enumerate(sorted(images)):
        draw(tmp_path / path, number, size=(480, 640))
    assert files and images
    assert find_layout(str(tmp_path / "photos")) == name
    data = read_folder(str(tmp_path / "photos"))
    assert not data.missing and len(data.records()) == len(images)
    first = data.records()[0]["annotations"][0]
    assert first["bbox"] == pytest.approx([80, 80, 280, 320], abs=0.01)
    assert data.class_names[first["category_id"]].lower() == "cat"
    if "ImageSets" not in section:
        assert "train" in data.splits


@pytest.mark.parametrize("name", LAYOUTS)
def test_table_says_what_a_layout_holds(name):
    row = next(r for r in TEXT.splitlines() if r.startswith("|") and f"`{name}`" in r)
    _, _, boxes, masks, *others = [cell.strip() for cell in row.strip("|").split("|")]
    holds = LAYOUTS[name].holds
    assert boxes == "yes"
    assert masks == {"any": "any", "parts": "polygons", "one": "one polygon", "": ""}[holds.masks]
    assert [cell == "yes" for cell in others] == [holds.keypoints, holds.crowds, holds.difficult]
