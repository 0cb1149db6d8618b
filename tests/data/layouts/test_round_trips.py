"""Data written in a layout and read again are the same."""

import itertools
import os
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.layouts import LAYOUTS, find_layout, read_folder, write_folder
from d2lite.structures import BoxMode
from tests.data.layouts.tiny import SQUARE, facts, labeled, thing

ROOT = os.environ.get("D2LITE_DATASETS", "")
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
WITH_MASKS = [name for name, one in LAYOUTS.items() if one.holds.masks]


def assert_same(one, other, pixels=0.5):
    """The same images and classes in every split, and boxes within half a pixel."""
    assert one.class_names == other.class_names
    assert one.splits.keys() == other.splits.keys()
    for split in one.splits:
        left, right = facts(one, split), facts(other, split)
        assert left.keys() == right.keys()
        for name, (size, objects) in left.items():
            assert size == right[name][0]
            assert [o[0] for o in objects] == [o[0] for o in right[name][1]]
            for (_, box, mode), (_, found, found_mode) in zip(objects, right[name][1], strict=True):
                assert mode == found_mode
                np.testing.assert_allclose(found, box, atol=pixels)


@every_layout
def test_written_and_read_again(layout, tmp_path):
    data = labeled(tmp_path)
    lost = write_folder(data, str(tmp_path / "out"), layout)
    assert lost == {}
    assert find_layout(str(tmp_path / "out")) == layout
    back = read_folder(str(tmp_path / "out"))
    assert back.layout == layout
    assert_same(data, back)
    for one in back.records():
        assert os.path.isfile(one["file_name"])


@pytest.mark.parametrize("first, second", list(itertools.permutations(LAYOUTS, 2)))
def test_there_and_back(first, second, tmp_path):
    data = labeled(tmp_path)
    write_folder(data, str(tmp_path / "1"), first, link=True)
    one = read_folder(str(tmp_path / "1"))
    write_folder(one, str(tmp_path / "2"), second, link=True)
    write_folder(read_folder(str(tmp_path / "2")), str(tmp_path / "3"), first, link=True)
    back = read_folder(str(tmp_path / "3"))
    assert_same(data, back, pixels=0.01)
    assert_same(one, back, pixels=0.01)


@pytest.mark.parametrize("first, second", list(itertools.permutations(WITH_MASKS, 2)))
def test_polygons_there_and_back(first, second, tmp_path):
    other = [40.0, 10.0, 60.0, 10.5, 50.25, 30.0]
    rows = [thing(0, segmentation=[SQUARE]), thing(1, (40, 10, 60, 30), segmentation=[other])]
    data = labeled(tmp_path, lambda i: rows)
    for folder, layout in (("1", first), ("2", second), ("3", first)):
        assert write_folder(data, str(tmp_path / folder), layout, link=True) == {}
        data = read_folder(str(tmp_path / folder))
    for one in data.records():
        for annotation, polygon in zip(one["annotations"], (SQUARE, other), strict=False):
            (found,) = annotation["segmentation"]
            np.testing.assert_allclose(found, polygon, atol=0.01)


@every_layout
def test_without_splits(layout, tmp_path):
    data = labeled(tmp_path, splits={"all": ["a.png", "b.png", "empty.png"]})
    write_folder(data, str(tmp_path / "out"), layout)
    assert_same(data, read_folder(str(tmp_path / "out")))


@every_layout
def test_class_order_and_classes_without_objects_stay(layout, tmp_path):
    data = labeled(tmp_path, names=("zebra", "ant", "never"))
    write_folder(data, str(tmp_path / "out"), layout)
    assert read_folder(str(tmp_path / "out")).class_names == ["zebra", "ant", "never"]


@pytest.mark.parametrize("layout", WITH_MASKS)
def test_polygons_stay(layout, tmp_path):
    other = [40.0, 10.0, 60.0, 10.5, 50.25, 30.0]
    data = labeled(
        tmp_path,
        lambda i: [
            thing(0, segmentation=[SQUARE]),
            thing(1, (40, 10, 60, 30), segmentation=[other]),
        ],
    )
    lost = write_folder(data, str(tmp_path / "out"), layout)
    assert lost == {}
    back = read_folder(str(tmp_path / "out"))
    assert_same(data, back)
    assert back.kinds() == ("boxes", "masks")
    for one in back.records():
        for annotation, polygon in zip(one["annotations"], (SQUARE, other), strict=False):
            (found,) = annotation["segmentation"]
            np.testing.assert_allclose(found, polygon, atol=0.5)


@pytest.mark.parametrize("layout", [n for n, one in LAYOUTS.items() if one.holds.masks != "one"])
def test_objects_of_several_polygons(layout, tmp_path):
    parts = [SQUARE, [40.0, 10.0, 60.0, 10.5, 50.25, 30.0]]
    data = labeled(tmp_path, lambda i: [thing(1, (8, 8, 60, 32), segmentation=parts)])
    lost = write_folder(data, str(tmp_path / "out"), layout)
    back = read_folder(str(tmp_path / "out"))
    assert_same(data, back)
    if LAYOUTS[layout].holds.masks:
        assert lost == {}
        found = back.splits["val"][0]["annotations"][0]["segmentation"]
        assert len(found) == 2
    else:
        assert lost == {"objects without their outlines": 5}


@every_layout
def test_masks_of_pixels_become_polygons_or_are_said_to_be_lost(layout, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[8:32, 8:28] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    data = labeled(tmp_path, lambda i: [thing(0, segmentation=rle)], names=("cat",))
    lost = write_folder(data, str(tmp_path / "out"), layout)
    back = read_folder(str(tmp_path / "out"))
    assert_same(data, back)
    holds = LAYOUTS[layout].holds.masks
    if holds == "any":
        assert lost == {}
        assert mask_util.area(back.records()[0]["annotations"][0]["segmentation"]) == 480
    else:
        said = (
            "masks of pixels as polygons around them" if holds else "objects without their outlines"
        )
        assert lost == {said: 5}


@every_layout
def test_what_a_layout_cannot_hold_is_said(layout, tmp_path):
    holds = LAYOUTS[layout].holds
    data = labeled(
        tmp_path,
        lambda i: [
            thing(0, difficult=1),
            thing(1, iscrowd=1),
            thing(1, keypoints=[10.5, 10.5, 2, 20.5, 20.5, 1]),
        ],
        keypoints={"keypoint_names": ["left", "right"], "keypoint_flip_map": [("left", "right")]},
    )
    lost = write_folder(data, str(tmp_path / "out"), layout)
    assert ("crowds left out" in lost) != holds.crowds
    assert ("objects without the mark 'difficult'" in lost) != holds.difficult
    assert ("objects without their keypoints" in lost) != holds.keypoints
    back = read_folder(str(tmp_path / "out")).splits["val"][0]["annotations"]
    assert len(back) == (3 if holds.crowds else 2)
    assert back[0].get("difficult", 0) == int(holds.difficult)
    if holds.crowds:
        assert [a.get("iscrowd", 0) for a in back] == [0, 1, 0]


@pytest.mark.parametrize("layout", [n for n, one in LAYOUTS.items() if one.holds.keypoints])
def test_keypoints_stay(layout, tmp_path):
    points = [10.5, 11.25, 2, 20.5, 20.5, 1, 0, 0, 0]
    data = labeled(
        tmp_path,
        lambda i: [thing(0, keypoints=points)],
        names=("cat",),
        keypoints={
            "keypoint_names": ["nose", "left_ear", "right_ear"],
            "keypoint_flip_map": [("left_ear", "right_ear")],
            "keypoint_connection_rules": [("nose", "left_ear", (1, 2, 3))],
        },
    )
    write_folder(data, str(tmp_path / "out"), layout)
    back = read_folder(str(tmp_path / "out"))
    assert back.kinds() == ("boxes", "keypoints")
    assert back.keypoints["keypoint_names"] == ["nose", "left_ear", "right_ear"]
    assert back.keypoints["keypoint_flip_map"] == [("left_ear", "right_ear")]
    found = np.reshape(back.splits["val"][0]["annotations"][0]["keypoints"], (3, 3))
    np.testing.assert_allclose(found[:2], np.reshape(points, (3, 3))[:2], atol=0.01)
    assert found[2, 2] == 0


@every_layout
def test_two_images_of_one_name_do_not_overwrite_each_other(layout, tmp_path):
    data = labeled(tmp_path, splits={"train": ["x/a.png", "y/a.png"], "val": ["z/A.png"]})
    write_folder(data, str(tmp_path / "out"), layout)
    back = read_folder(str(tmp_path / "out"))
    assert [len(records) for records in back.splits.values()] == [2, 1]
    sources = [Path(r["file_name"]).read_bytes() for r in data.records()]
    copies = [Path(r["file_name"]).read_bytes() for r in back.records()]
    assert sorted(sources) == sorted(copies)


@every_layout
def test_links_in_place_of_copies(layout, tmp_path):
    data = labeled(tmp_path)
    write_folder(data, str(tmp_path / "out"), layout, link=True)
    back = read_folder(str(tmp_path / "out"))
    assert all(os.path.islink(one["file_name"]) for one in back.records())


def test_a_folder_with_files_is_not_written_into(tmp_path):
    with pytest.raises(ValueError, match="photos is not empty; give a new folder"):
        write_folder(labeled(tmp_path), str(tmp_path / "photos"), "coco")


def test_rotated_boxes_become_upright_where_they_must(tmp_path):
    data = labeled(tmp_path)
    for one in data.records():
        for annotation in one["annotations"]:
            annotation.update(bbox=[30.0, 20.0, 20.0, 10.0, 90.0], bbox_mode=BoxMode.XYWHA_ABS)
    lost = write_folder(data, str(tmp_path / "out"), "voc")
    assert lost == {"rotated boxes as the upright boxes around them": 10}
    box = read_folder(str(tmp_path / "out")).records()[0]["annotations"][0]["bbox"]
    np.testing.assert_allclose(box, [25, 10, 35, 30], atol=0.01)


@pytest.mark.skipif(
    not ROOT or not os.path.isdir(os.path.join(ROOT, "bccd")),
    reason="set D2LITE_DATASETS to a folder that has bccd/",
)
@every_layout
def test_bccd_in_every_layout(layout, tmp_path):
    data = read_folder(os.path.join(ROOT, "bccd"))
    assert write_folder(data, str(tmp_path / "out"), layout, link=True) == {}
    back = read_folder(str(tmp_path / "out"))
    assert_same(data, back, pixels=0.01)
    assert [len(records) for records in back.splits.values()] == [205, 87, 72]
