"""LabelMe's JSON as people have it."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from d2lite.data.layouts import find_layout, read_folder
from tests.data.layouts.tiny import draw

POLYGON = [[8, 8], [28, 8], [28, 32]]


def shape(label="cat", points=POLYGON, kind="polygon", **more):
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "shape_type": kind,
        "flags": {},
        **more,
    }


@pytest.fixture
def put(tmp_path):
    """A function that writes a.json with these shapes, and reads the folder."""
    draw(tmp_path / "imgs" / "a.jpg")

    def write(shapes, **more):
        content = {"version": "5.0.1", "flags": {}, "shapes": shapes,
                   "imagePath": "..\\imgs\\a.jpg",
                   "imageData": None, "imageHeight": 48, "imageWidth": 64, **more}  # fmt: skip
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / "a.json").write_text(json.dumps(content), encoding="utf-8")
        return read_folder(str(tmp_path))

    return write


def annotations(data):
    (record,) = data.records()
    return record["annotations"]


def test_polygons_and_rectangles(put):
    data = put([shape(), shape("dog", [[20, 30], [10, 5]], "rectangle")])
    assert (data.layout, data.class_names) == ("labelme", ["cat", "dog"])
    one, other = annotations(data)
    assert one["segmentation"] == [[8, 8, 28, 8, 28, 32]] and one["bbox"] == [8, 8, 28, 32]
    assert other["bbox"] == [10, 5, 20, 30] and "segmentation" not in other


def test_polygons_of_a_group_are_one_object(put):
    other = [[40, 10], [60, 10], [50, 30]]
    shapes = [shape(group_id=1), shape(points=other, group_id=1), shape("dog", group_id=1), shape()]
    found = annotations(put(shapes))
    assert [len(a["segmentation"]) for a in found] == [2, 1, 1]
    assert found[0]["bbox"] == [8, 8, 60, 32]


def test_circles_masks_and_what_is_no_object(put):
    png = io.BytesIO()
    Image.fromarray(np.full((10, 12), 255, np.uint8)).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    data = put(
        [
            shape(points=[[30, 20], [30, 30]], kind="circle"),
            shape(points=[[5, 6], [16, 15]], kind="mask", mask=mask),
            shape(points=[[1, 2]], kind="point"),
            shape(points=[[1, 2], [3, 4]], kind="line"),
            shape("__ignore__"),
        ]
    )
    circle, square = (a["bbox"] for a in annotations(data))
    np.testing.assert_allclose(circle, [20, 10, 40, 30], atol=0.1)
    np.testing.assert_allclose(square, [5, 6, 17, 16], atol=0.3)
    assert data.class_names == ["cat"]
    assert data.notes == ["left out 2 shapes without area (points, lines)"]


def test_size_is_read_from_the_image_where_the_file_has_none(put):
    data = put([shape()], imageHeight=None)
    assert (data.records()[0]["height"], data.records()[0]["width"]) == (48, 64)


def test_class_list(put, tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nzebra\ncat\n")
    assert put([shape()]).class_names == ["zebra", "cat"]
    (tmp_path / "labels.txt").write_text("other\n")
    assert put([shape()]).class_names == ["cat"]


def test_pixels_within_the_file_do_not_hide_what_it_is(put, tmp_path):
    content = {"flags": {}, "imageData": "A" * 10**6, "imagePath": "a.jpg", "shapes": [shape()]}
    put([shape()])
    (tmp_path / "labels" / "a.json").write_text(json.dumps(content))
    assert find_layout(str(tmp_path)) == "labelme"
    (tmp_path / "imgs" / "a.jpg").rename(tmp_path / "imgs" / "b.jpg")
    with pytest.raises(FileNotFoundError, match=r"a.jpg .*its pixels are in the JSON file"):
        read_folder(str(tmp_path))


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({}, "'shapes' must be a list"),
        ([{"points": POLYGON}], "shape number 0 has no 'label'; name its class"),
        (
            [shape(points=[[1, 2], [3]])],
            r"shape number 0 \(cat\) has points .*; expected pairs of numbers",
        ),
        (
            [shape(), shape(points=[[1, 2]], kind="circle")],
            r"shape number 1 \(cat\) is a 'circle' of 1 points",
        ),
        ([shape(kind="spline")], "is a 'spline' of 3 points; expected a polygon"),
        ([shape(points=[[5, 6], [16, 15]], kind="mask", mask="no")], "its 'mask' does not decode"),
        ([shape(points=[[1e9, 2], [3, 4], [5, 6]])], "far outside"),
    ],
)
def test_bad_shapes_name_file_and_shape(put, shapes, message):
    with pytest.raises(ValueError, match=message) as error:
        put(shapes)
    assert "a.json" in str(error.value)
