"""Dataset dicts are checked and completed, for training and evaluation alike."""

import copy
import json

import numpy as np
import pytest
import torch.utils.data as torchdata
from PIL import Image

from d2lite.data.ground_truth import NormalizedDicts, load_ground_truth, normalize_dicts
from d2lite.structures import BoxMode


def thing(*box, **more) -> dict:
    """An object of class 0, with a box in XYXY."""
    return {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **more}


def image(*things, **more) -> dict:
    return {"file_name": "a.jpg", "height": 40, "width": 60, "annotations": list(things), **more}


GOOD = thing(1.0, 2.0, 30.0, 20.0)
WITHOUT_AREA = thing(5.0, 5.0, 5.0, 20.0)


@pytest.mark.parametrize(
    "given, expected",
    [
        ([None, None], [0, 1]),
        ([None, 0, None, 2], [1, 0, 3, 2]),  # numbers that no image has
        (["a", None, "0", None], ["a", "1", "0", "2"]),  # of the type of the others
    ],
)
def test_images_without_an_id_get_one(given, expected):
    records = [image(GOOD) if i is None else image(GOOD, image_id=i) for i in given]
    assert [r["image_id"] for r in normalize_dicts(records, "x")] == expected


def test_given_dicts_are_not_changed():
    records = [image(GOOD, WITHOUT_AREA, height=40.0), {"file_name": "b.jpg"}]
    before = copy.deepcopy(records)
    found = normalize_dicts(records, "x")
    assert records == before
    assert [len(record["annotations"]) for record in found] == [1, 0]
    assert found[0]["height"] == 40 and isinstance(found[0]["height"], int)


def test_images_without_any_annotations_stay_without():
    (found,) = normalize_dicts([{"file_name": "a.jpg", "height": None}], "x")
    assert found == {"file_name": "a.jpg", "image_id": 0}


def test_what_only_a_custom_mapper_understands_is_kept():
    records = ["a.jpg", {"annotations": 5}]
    assert normalize_dicts(records, "x") is records
    (found,) = normalize_dicts([image("text", GOOD)], "x")
    assert found["annotations"] == ["text", GOOD]
    (found,) = normalize_dicts([{"annotations": "boxes.txt"}], "x")
    assert found["annotations"] == "boxes.txt"


def test_dropped_annotations_are_counted_by_reason(caplog):
    outside = thing(100.0, 0.0, 120.0, 20.0)
    records = [image(WITHOUT_AREA, GOOD), image(WITHOUT_AREA, outside, file_name="b.jpg")]
    found = normalize_dicts(records, "dataset 'x'")
    assert [len(record["annotations"]) for record in found] == [1, 0]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("dataset 'x': left out 3 annotations: 2 with ")
    assert "(the first is a.jpg: annotation number 0); 1 with " in message
    assert message.endswith("(the first is b.jpg: annotation number 1)")


def test_messages_can_name_annotations_in_the_words_of_a_file(caplog):
    normalize_dicts([image(WITHOUT_AREA, GOOD)], "x", lambda record, index: f"line {index + 1}")
    assert "(the first is line 1)" in caplog.text


def test_no_annotation_left_is_an_error():
    with pytest.raises(ValueError, match=r"x: not one of the 1 annotations can be used: 1 with "):
        normalize_dicts([image(WITHOUT_AREA)], "x")


FRACTION = thing(0.25, 0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    "boxes, refused",
    [
        ([FRACTION], True),
        ([FRACTION, FRACTION], True),
        ([FRACTION, GOOD], False),
        ([thing(0.0, 0.0, 1.0, 1.0)], False),  # a pixel
        ([{**FRACTION, "bbox_mode": None}], False),  # of a custom format
    ],
)
def test_boxes_that_are_fractions_of_their_image_are_refused(boxes, refused):
    if refused:
        message = rf"x: no number of its {len(boxes)} boxes is above 1, the first is \[0\.25, "
        with pytest.raises(ValueError, match=message):
            normalize_dicts([image(*boxes)], "x")
    else:
        (found,) = normalize_dicts([image(*boxes)], "x")
        assert len(found["annotations"]) == len(boxes)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"image_id": 1.5},
            r"x: image a\.jpg has image_id 1\.5; expected a whole number or a string",
        ),
        ({"height": 1.5}, r"has height 1\.5; expected a whole number of pixels"),
        ({"width": "60"}, r"has width '60'; expected a whole number of pixels"),
        ({"height": 0}, r"has the size 0 x 60 \(height x width\)"),
        ({"width": -1}, r"has the size 40 x -1 "),
        ({"height": 10**6, "width": 10**6}, r"has the size 1000000 x 1000000 "),
    ],
)
def test_images_with_impossible_values_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        normalize_dicts([image(GOOD, **wrong)], "x")


def test_malformed_annotations_are_named():
    with pytest.raises(ValueError, match=r"x: a\.jpg: annotation number 1 has bbox \[1\]"):
        normalize_dicts([image(GOOD, thing(1))], "x")


def test_checked_dicts_know_their_datasets():
    found = NormalizedDicts([{"a": 1}], ("x", "y"))
    assert found == [{"a": 1}] and found.names == ["x", "y"]


def test_missing_sizes_are_read_from_the_images(register, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    name = register("test_g_size", [{"file_name": str(path)}])
    (found,) = load_ground_truth(name)
    assert (found["height"], found["width"], found["image_id"]) == (20, 30, 0)
    assert "height" not in load_ground_truth(name, sizes=False)[0]


@pytest.mark.parametrize(
    "ids, message",
    [
        ([3, 4, 3], r"dataset 'test_g_1': image_id 3 occurs 2 times; each image needs one of"),
        ([3, "a"], r"dataset 'test_g_1': some values of image_id are numbers, others are strings"),
    ],
)
def test_ids_by_which_predictions_are_assigned_must_be_clear(register, ids, message):
    register("test_g_1", [image(GOOD, image_id=i) for i in ids])
    with pytest.raises(ValueError, match=message):
        load_ground_truth("test_g_1")


def test_sizes_need_a_file_to_be_read_from(register):
    register("test_g_1", [{"image_id": 8}])
    with pytest.raises(ValueError, match=r"image 8 has no height and width, and no file_name"):
        load_ground_truth("test_g_1")


def test_torch_datasets_are_listed(register):
    class Images(torchdata.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return image(GOOD, image_id=10 + index)

    register("test_g_torch", Images())
    assert [record["image_id"] for record in load_ground_truth("test_g_torch")] == [10, 11]


def test_annotations_may_be_in_a_file_of_the_metadata(register, tmp_path):
    row = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 40, "width": 60}],
        "categories": [{"id": 9, "name": "dog"}],
        "annotations": [row],
    }
    json_file = tmp_path / "test.json"
    json_file.write_text(json.dumps(content))
    register("test_g_json", [{"file_name": "a.jpg", "image_id": 5}], json_file=str(json_file))
    (found,) = load_ground_truth("test_g_json")
    assert [annotation["bbox"] for annotation in found["annotations"]] == [[1, 2, 3, 4]]
