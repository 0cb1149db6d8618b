"""The common form of all layouts."""

import copy
import os

import pytest

from d2lite.data.layouts.labeled import (
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.structures import BoxMode
from tests.data.layouts.tiny import SIZE, SQUARE, draw, labeled, record, thing


@pytest.mark.parametrize(
    "number, what, expected",
    [(1, "image", "1 image"), (0, "image", "0 images"), (1, "box", "1 box"), (2, "box", "2 boxes")],
)
def test_counted_words(number, what, expected):
    assert counted(number, what) == expected


def test_stems_are_below_their_folder():
    path = os.path.join("data", "train", "v.2.png")
    assert relative_stem(path, "data") == "train/v.2"


def data_of(*annotations, root="data", **more) -> LabeledImages:
    records = [record(os.path.join("data", "train", "a.png"), *annotations)]
    return LabeledImages("coco", root, ["cat", "dog"], {"train": records}, **more)


def test_paths_are_below_the_root_or_else_names():
    data = data_of()
    (one,) = data.records()
    assert data.relative(one) == "train/a.png"
    data.root = os.path.join("data", "val")
    assert data.relative(one) == "a.png"


MASK, POINTS = {"segmentation": [SQUARE]}, {"keypoints": [1, 2, 2]}
NAMES = {"keypoint_names": ["nose"]}


@pytest.mark.parametrize(
    "things, keypoints, expected",
    [
        ([], NAMES, ("boxes",)),
        ([thing()], NAMES, ("boxes",)),
        ([thing(**MASK), thing()], {}, ("boxes",)),
        ([thing(**MASK), thing(iscrowd=1)], {}, ("boxes", "masks")),
        ([thing(**MASK, **POINTS)], NAMES, ("boxes", "masks", "keypoints")),
        ([thing(**POINTS)], {}, ("boxes",)),  # without names
    ],
)
def test_what_can_be_learned(things, keypoints, expected):
    assert data_of(*things, keypoints=keypoints).kinds() == expected


def test_metadata_have_the_ids_of_the_file():
    assert data_of().metadata() == {"thing_classes": ["cat", "dog"], "evaluator_type": "coco"}
    metadata = data_of(category_ids=[9, 4], keypoints=NAMES).metadata()
    assert metadata["thing_dataset_id_to_contiguous_id"] == {9: 0, 4: 1}
    assert metadata["keypoint_names"] == ["nose"]


def test_missing_images_are_counted():
    data_of().require_images()
    with pytest.raises(FileNotFoundError, match=r"data: 2 images not found, the first is a\.png"):
        data_of(missing=["a.png", "b.png"]).require_images()


def test_classes_are_in_the_order_of_the_list_or_of_the_alphabet():
    assert class_indices(["dog", "cat", "dog"], None, "x") == {"cat": 0, "dog": 1}
    assert class_indices(["cat"], ["dog", "cat"], "x") == {"dog": 0, "cat": 1}


@pytest.mark.parametrize(
    "names, listed, message",
    [
        (["dgo"], ["dog"], "x: class 'dgo' .* among the 1 classes there .*Did you mean 'dog'"),
        ([], None, "x: no image has an object"),
        ([], [], "x: no image has an object"),
    ],
)
def test_classes_that_are_not_clear_are_errors(names, listed, message):
    with pytest.raises(ValueError, match=message):
        class_indices(names, listed, "x")


def finish(*annotations, **more) -> list[dict]:
    (one,) = finish_records([record("a.png", *copy.deepcopy(annotations))], "x", **more)
    return one["annotations"]


def test_boxes_become_corners_in_double_precision():
    (found,) = finish(thing(0, (0.1, 0.2, 10.3, 10.4), iscrowd=0, note="kept"))
    assert found == thing(0, (0.1, 0.2, 10.3, 10.4), note="kept")
    (found,) = finish({**thing(0, (1, 2, 10.1, 10.3)), "bbox_mode": BoxMode.XYWH_ABS})
    assert found == thing(0, (1, 2, 1 + 10.1, 2 + 10.3))


def test_objects_without_a_box_get_that_of_their_polygons():
    outline = {"category_id": 1, "segmentation": [SQUARE, [1.0, 9.0, 4.0, 9.0, 4.0, 40.0]]}
    (found,) = finish(outline)
    assert found["bbox"] == [1, 8, 28, 40] and found["bbox_mode"] == BoxMode.XYXY_ABS


@pytest.mark.parametrize(
    "area, more, kept", [(480.0, {}, False), (400.0, {}, True), (480.0, MASK, True)]
)
def test_areas_that_boxes_have_anyway_are_left_out(area, more, kept):
    (found,) = finish(thing(0, (8, 8, 28, 32), area=area, **more))  # 20 x 24
    assert ("area" in found) == kept


def test_sizes_are_read_from_the_files(tmp_path):
    one = record(draw(tmp_path / "a.png"))
    del one["height"], one["width"]
    (found,) = finish_records([one], "x", normalize=False)
    assert (found["height"], found["width"]) == SIZE


def test_images_are_listed_once():
    with pytest.raises(ValueError, match=r"x: image a\.png is listed 2 times; put its objects"):
        finish_records([record("a.png"), record("b.png"), record("a.png")], "x")


def test_records_of_all_splits(tmp_path):
    names = [os.path.basename(one["file_name"]) for one in labeled(tmp_path).records()]
    assert len(names) == 6 and names[-2:] == ["v1.png", "v.2.png"]
