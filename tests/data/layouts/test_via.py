"""VIA's JSON as people have it."""

import json

import numpy as np
import pytest

from d2lite.data.layouts import read_folder
from tests.data.layouts.tiny import draw

POLYGON = {"name": "polygon", "all_points_x": [8, 28, 28], "all_points_y": [8, 8, 32]}
RECT = {"name": "rect", "x": 1, "y": 2, "width": 10, "height": 20}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.fixture
def put(tmp_path):
    """A function that writes one file for an image with these regions, and reads it."""

    def write(regions, split="train", wrap=lambda entries: entries, image="a.jpg"):
        draw(tmp_path / split / image, len(split))
        entry = {"filename": image, "size": 9, "regions": regions, "file_attributes": {}}
        content = json.dumps(wrap({f"{image}9": entry}))
        (tmp_path / split / "via_region_data.json").write_text(content, encoding="utf-8")
        return read_folder(str(tmp_path))

    return write


def test_balloons(put):
    # The balloon data have VIA 1's regions by number, without any attribute.
    put({"0": region(POLYGON), "1": region(POLYGON)})
    data = put({"0": region(POLYGON)}, "val")
    assert (data.layout, data.class_names) == ("via", ["object"])
    assert {s: len(r[0]["annotations"]) for s, r in data.splits.items()} == {"train": 2, "val": 1}
    (annotation,) = data.splits["val"][0]["annotations"]
    assert annotation["segmentation"] == [[8, 8, 28, 8, 28, 32]]
    assert annotation["bbox"] == [8, 8, 28, 32]
    assert data.kinds() == ("boxes", "masks")


@pytest.mark.parametrize(
    "attributes", [{"class": "cat"}, {"name": " cat "}, {"animal": "cat"}, {"kind": "cat"},
                   {"label": {"cat": True, "dog": False}}, {"type": "cat", "color": "red"}],
)  # fmt: skip
def test_attribute_of_the_class(put, attributes):
    assert put([region(RECT, **attributes)]).class_names == ["cat"]


def test_project_files_give_the_order_of_classes(put):
    def project(entries):
        options = {"class": {"type": "dropdown", "options": {"dog": "", "cat": ""}}}
        return {
            "_via_settings": {},
            "_via_img_metadata": entries,
            "_via_attributes": {"region": options, "file": {}},
        }

    data = put([region(RECT, **{"class": "cat"})], wrap=project)
    assert data.class_names == ["dog", "cat"]
    assert data.records()[0]["annotations"][0]["bbox"] == [1, 2, 11, 22]


def test_round_shapes_and_points(put):
    circle = {"name": "circle", "cx": 30, "cy": 20, "r": 10}
    ellipse = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 20, "ry": 10, "theta": 0}
    data = put([region(circle, name="x"), region(ellipse, name="x"),
                region({"name": "point", "cx": 1, "cy": 2}, name="x")])  # fmt: skip
    one, other = (a["bbox"] for a in data.records()[0]["annotations"])
    np.testing.assert_allclose(one, [20, 10, 40, 30], atol=0.1)
    np.testing.assert_allclose(other, [10, 10, 50, 30], atol=0.1)
    assert data.notes == ["left out 1 region without area (points, open lines)"]


@pytest.mark.parametrize(
    "regions, message",
    [
        ([region(RECT, a="x", b="y")], "regions have the attributes a, b; call the one"),
        ([region(RECT, name="x"), region(RECT)], "image 'a.jpg': a region has no class"),
        ([region(RECT, label={"cat": True, "dog": True})], "image 'a.jpg': a region has no class"),
        (
            [region({"name": "rect", "x": 1}, name="x")],
            "image 'a.jpg', region number 0: a rect has",
        ),
        (
            [region({"name": "star"}, name="x")],
            "region number 0: the shape is 'star'; expected rect",
        ),
        (
            [region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}, name="x")],
            "must be lists of one length",
        ),
        (
            [region({**POLYGON, "all_points_x": [1, "2", 3]}, name="x")],
            "points that are not numbers",
        ),
        ("x", "'regions' must be a list"),
    ],
)
def test_bad_regions_name_the_place(put, regions, message):
    with pytest.raises(ValueError, match=message):
        put(regions)


def test_projects_of_version_3_are_told(put):
    with pytest.raises(ValueError, match=r"via_region_data.json: a project of VIA 3; export"):
        put(
            [],
            wrap=lambda _: {
                "project": {},
                "config": {},
                "attribute": {},
                "file": {},
                "metadata": {},
            },
        )


def test_missing_images_are_named(put, tmp_path):
    put([region(RECT, name="x")])
    (tmp_path / "train" / "a.jpg").rename(tmp_path / "train" / "b.jpg")
    (missing,) = read_folder_missing(tmp_path)
    assert missing.startswith("a.jpg (")


def read_folder_missing(path):
    with pytest.raises(FileNotFoundError, match=r"1 image not found, the first is a.jpg"):
        read_folder(str(path))
    from d2lite.data.layouts import via
    from d2lite.data.layouts.files import Folder

    return via.read_via(Folder(str(path))).missing
