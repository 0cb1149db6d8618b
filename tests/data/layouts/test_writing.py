"""A new folder: what layouts can hold, names of images, and what is lost."""

import os

import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.layouts import LabeledImages
from d2lite.data.layouts.writing import Destination, Holds, shown_number
from d2lite.structures import BoxMode
from tests.data.layouts.tiny import SIZE, SQUARE, draw, record, thing

ALL_KINDS = Holds(masks="any", keypoints=True, crowds=True, difficult=True)


def data_of(*annotations, paths=("photos/a.png",), split="train") -> LabeledImages:
    records = [record(path, *annotations) for path in paths]
    return LabeledImages("coco", "photos", ["cat"], {split: records}, keypoints={"a": 1})


def written(annotation: dict, holds: Holds, tmp_path) -> tuple[list[dict], dict]:
    """Return what is left of an annotation, and the losses."""
    target = Destination(data_of(annotation), str(tmp_path / "new"), holds)
    (one,) = target.data.records()
    return one["annotations"], dict(target.losses)


TRIANGLE = [40.0, 8.0, 50.0, 8.0, 50.0, 30.0]


@pytest.mark.parametrize(
    "more, holds, kept, lost",
    [
        ({"iscrowd": 1}, {}, None, "crowds left out"),
        ({"iscrowd": 1}, {"crowds": True}, {"iscrowd": 1}, None),
        ({"keypoints": [1]}, {}, {}, "objects without their keypoints"),
        ({"keypoints": [1]}, {"keypoints": True}, {"keypoints": [1]}, None),
        ({"difficult": 1}, {}, {}, "objects without the mark 'difficult'"),
        ({"difficult": 1}, {"difficult": True}, {"difficult": 1}, None),
        ({"segmentation": [SQUARE]}, {}, {}, "objects without their outlines"),
        ({"segmentation": [SQUARE]}, {"masks": "one"}, {"segmentation": [SQUARE]}, None),
        (
            {"segmentation": [SQUARE, TRIANGLE], "bbox": [8.0, 8.0, 50.0, 32.0]},
            {"masks": "one"},
            {"segmentation": [SQUARE, TRIANGLE]},
            "objects of several polygons as one joined polygon",
        ),
        (
            {"segmentation": [SQUARE], "bbox": [8.0, 8.0, 29.0, 32.0]},
            {"masks": "parts"},
            {"segmentation": [SQUARE]},
            "boxes as those around the outlines",
        ),
        (
            {"segmentation": [SQUARE], "bbox": [8.0, 8.0, 29.0, 32.0]},
            {"masks": "any"},
            {"segmentation": [SQUARE]},
            None,
        ),
    ],
)
def test_what_layouts_can_hold(more, holds, kept, lost, tmp_path):
    found, losses = written({**thing(), **more}, Holds(**holds), tmp_path)
    expected = (
        [] if kept is None else [{**thing(), **kept, "bbox": more.get("bbox", thing()["bbox"])}]
    )
    assert found == expected
    assert losses == ({lost: 1} if lost else {})


def test_masks_of_pixels_become_polygons(tmp_path):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[8:32, 8:28] = 1
    annotation = thing(segmentation=mask_util.encode(mask))
    ((found,), losses) = written(annotation, Holds(masks="parts"), tmp_path)
    xs, ys = found["segmentation"][0][::2], found["segmentation"][0][1::2]
    assert [min(xs), min(ys), max(xs), max(ys)] == pytest.approx([8, 8, 28, 32], abs=0.5)
    assert losses == {"masks of pixels as polygons around them": 1}


def test_rotated_boxes_become_upright(tmp_path):
    box = {"bbox": [20.0, 20.0, 10.0, 4.0, 90.0], "bbox_mode": BoxMode.XYWHA_ABS}
    ((found,), losses) = written({**thing(), **box}, Holds(), tmp_path)
    assert found["bbox"] == pytest.approx([18, 15, 22, 25], abs=1e-4)
    assert found["bbox_mode"] == BoxMode.XYXY_ABS
    assert losses == {"rotated boxes as the upright boxes around them": 1}


def test_given_data_are_not_changed(tmp_path):
    data = data_of(thing(keypoints=[1]))
    target = Destination(data, str(tmp_path / "new"), Holds())
    assert data.records()[0]["annotations"] == [thing(keypoints=[1])]
    assert (data.keypoints, target.data.keypoints) == ({"a": 1}, {})


def names_of(tmp_path, *paths) -> list[str]:
    target = Destination(data_of(paths=paths), str(tmp_path / "new"), ALL_KINDS)
    return [target.name_of(one, "train") for one in target.data.records()]


@pytest.mark.parametrize(
    "paths, expected",
    [
        (["photos/a.png", "photos/x/b.png"], ["a.png", "b.png"]),
        (["photos/x/a.png", "photos/y/a.png"], ["x_a.png", "y_a.png"]),
        (["photos/a.png", "photos/a.jpg"], ["a.png", "a_2.jpg"]),  # differ without extension too
        (["photos/a.png", "photos/A.png"], ["a.png", "A_2.png"]),  # on Windows, one file
        (["other/a.png", "else/a.png", "third/a.png"], ["a.png", "a_2.png", "a_3.png"]),
    ],
)
def test_names_of_images_are_unique(paths, expected, tmp_path):
    assert names_of(tmp_path, *paths) == expected


@pytest.mark.parametrize("link", [False, True])
def test_images_are_placed_in_folders(link, tmp_path):
    path = draw(tmp_path / "a.png")
    data = data_of(paths=[path], split="all")
    target = Destination(data, str(tmp_path / "new"), ALL_KINDS, link=link)
    assert target.place_image(data.records()[0], "all", "images", "all", "") == "images/a.png"
    placed = tmp_path / "new" / "images" / "a.png"
    assert placed.read_bytes() == (tmp_path / "a.png").read_bytes()
    if os.name != "nt":
        assert placed.is_symlink() == link


def test_texts_are_written_in_folders(tmp_path):
    target = Destination(data_of(), str(tmp_path / "new"), ALL_KINDS)
    target.write_text("größe\n", "all", "labels", "a.txt")
    assert (tmp_path / "new" / "labels" / "a.txt").read_bytes() == "größe\n".encode()


def test_folders_with_files_are_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        Destination(data_of(), str(tmp_path), ALL_KINDS)


@pytest.mark.parametrize(
    "value, digits, expected",
    [
        (1.0, 3, "1"),
        (100, 3, "100"),
        (0.12345, 3, "0.123"),
        (-0.0001, 3, "0"),
        (1.5, 3, "1.5"),
        (120.4, 0, "120"),
    ],
)
def test_shown_numbers(value, digits, expected):
    assert shown_number(value, digits) == expected
