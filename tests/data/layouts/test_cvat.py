"""CVAT's XML as people have it."""

import numpy as np
import pytest

from d2lite.data.layouts import read_folder
from tests.data.layouts.tiny import draw

LABELS = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
LABELS = f"<meta><task><labels>{LABELS}</labels></task></meta>"
BOX = '<box label="cat" occluded="0" xtl="8" ytl="8" xbr="28" ybr="32.5" z_order="0"></box>'


@pytest.fixture
def put(tmp_path):
    """A function that writes annotations.xml with this inside an image, and reads the folder."""

    def write(shapes, attributes='width="64" height="48"', meta=LABELS, whole=None):
        draw(tmp_path / "images" / "a.jpg")
        image = f'<image id="0" name="sub\\a.jpg" {attributes}>{shapes}</image>'
        text = f"<annotations><version>1.1</version>{meta}{image}</annotations>"
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{text}'
        (tmp_path / "annotations.xml").write_text(whole or text, encoding="utf-8")
        return read_folder(str(tmp_path))

    return write


def annotations(data):
    (record,) = data.records()
    return record["annotations"]


def test_boxes_and_order_of_labels(put):
    data = put(BOX)
    assert (data.layout, data.class_names) == ("cvat", ["dog", "cat"])
    assert annotations(data)[0]["bbox"] == [8, 8, 28, 32.5]
    assert annotations(data)[0]["category_id"] == 1
    assert put(BOX, meta="").class_names == ["cat"]


def test_polygons_groups_and_marks(put):
    polygon = '<polygon label="cat" points="{}" {}>{}</polygon>'
    mark = '<attribute name="difficult">true</attribute>'
    data = put(
        polygon.format("8,8;28,8;28,32", 'group_id="3"', mark)
        + polygon.format("40,10;60,10;50,30", 'group_id="3"', "")
        + polygon.format("40,10;60,10;50,30", 'group_id="0"', "")
        + '<points label="cat" points="1,2"/><polyline label="cat" points="1,2;3,4"/>'
    )
    one, other = annotations(data)
    assert len(one["segmentation"]) == 2 and one["bbox"] == [8, 8, 60, 32] and one["difficult"] == 1
    assert other["segmentation"] == [[40, 10, 60, 10, 50, 30]] and "difficult" not in other
    assert data.notes == ["left out 2 shapes without area (points, lines, skeletons)"]


def test_turned_boxes_ellipses_and_masks(put):
    data = put(
        '<box label="cat" xtl="20" ytl="20" xbr="40" ybr="30" rotation="90"/>'
        '<ellipse label="cat" cx="30" cy="20" rx="20" ry="10"/>'
        '<mask label="cat" rle="2,2,2,2" left="5" top="6" width="4" height="2"/>'
    )
    turned, ellipse, mask = (a["bbox"] for a in annotations(data))
    np.testing.assert_allclose(turned, [25, 15, 35, 35], atol=1e-6)
    np.testing.assert_allclose(ellipse, [10, 10, 50, 30], atol=0.1)
    np.testing.assert_allclose(mask, [7, 6, 9, 8], atol=0.3)


def test_clockwise_turn_of_a_box(put):
    # CVAT turns clockwise; at 45 degrees the upper left corner of a square goes to the top.
    data = put('<box label="cat" xtl="20" ytl="10" xbr="40" ybr="20" rotation="30"/>')
    (polygon,) = annotations(data)[0]["segmentation"]
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    # (-10, -5) from the center (30, 15), turned by x' = x cos - y sin, y' = x sin + y cos.
    np.testing.assert_allclose(
        polygon[:2], [30 - 10 * cos + 5 * sin, 15 - 10 * sin - 5 * cos], atol=1e-6
    )


def test_subsets_are_splits(put, tmp_path):
    draw(tmp_path / "images" / "b.jpg", 3)
    images = [
        f'<image id="{i}" name="{n}.jpg" subset="{s}" width="64" height="48">{BOX}</image>'
        for i, (n, s) in enumerate((("a", "Train"), ("b", "Validation")))
    ]
    data = put("", whole=f"<annotations>{''.join(images)}</annotations>")
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 1, "val": 1}


def test_size_is_read_from_the_image_where_there_is_none(put):
    assert put(BOX, attributes="").records()[0]["width"] == 64


@pytest.mark.parametrize(
    "shapes, message",
    [
        (
            '<box label="cat" xtl="left" ytl="8" xbr="28" ybr="32"/>',
            "<box> has xtl 'left'; expected a number",
        ),
        ('<box label="cat" xtl="8" ytl="8" xbr="28"/>', "<box> has ybr None; expected a number"),
        ('<box xtl="8" ytl="8" xbr="28" ybr="32"/>', "a <box> has no 'label'; add it"),
        ('<polygon label="cat" points="1,2;3"/>', "the points are '1,2;3'; expected"),
        ('<polygon label="cat" points="1,a;3,4"/>', "the points are '1,a;3,4'; expected"),
        (
            '<mask label="cat" rle="1,2" left="5" top="6" width="4" height="2"/>',
            "runs of a mask do not add up to its 4 x 2",
        ),
    ],
)
def test_bad_shapes_name_file_image_and_shape(put, shapes, message):
    with pytest.raises(ValueError, match=message) as error:
        put(BOX + shapes)
    assert "annotations.xml: image 'sub" in str(error.value)
    assert "shape number 1" in str(error.value)


def test_videos_are_told(put):
    with pytest.raises(ValueError, match=r"annotations.xml: in CVAT's format for video; export it"):
        put("", whole="<annotations><track id='0' label='cat'></track></annotations>")


def test_a_file_that_is_cut_off(put):
    with pytest.raises(ValueError, match=r"annotations.xml: not valid XML"):
        put("", whole=f"<annotations>{LABELS}<image")


def test_missing_images_are_named(put, tmp_path):
    images = '<image id="1" name="gone.jpg" width="64" height="48"></image>'
    data = put(
        "",
        whole=f"<annotations><image id='0' name='a.jpg'>{BOX}</image>{images}</annotations>",
    )
    (missing,) = data.missing
    assert missing.startswith("gone.jpg (")
