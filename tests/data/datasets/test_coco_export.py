"""Writing datasets as COCO files."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco import load_coco_json, register_coco_instances
from d2lite.data.datasets.coco_export import convert_to_coco_dict, convert_to_coco_json
from d2lite.structures import BoxMode
from tests.data.datasets.tiny import example


def test_writing_and_reading_again_gives_the_same(write, own_names, tmp_path):
    register_coco_instances("my_train", {}, *write(example()))
    output = tmp_path / "out" / "again.json"
    convert_to_coco_json("my_train", str(output))
    assert [p.name for p in output.parent.iterdir()] == ["again.json"]
    again = load_coco_json(str(output), str(tmp_path / "images"), "my_again")
    for record, expected in zip(again, DatasetCatalog.get("my_train"), strict=True):
        assert record["file_name"] == expected["file_name"]  # absolute, so the folder drops out
        for found in record["annotations"]:
            found.pop("area")  # computed for the file
        assert record["annotations"] == expected["annotations"]
    assert MetadataCatalog.get("my_again").thing_classes == ["cat", "dog"]


def test_written_files_are_what_pycocotools_reads(write, own_names, tmp_path):
    register_coco_instances("my_train", {}, *write(example()))
    convert_to_coco_json("my_train", str(tmp_path / "out.json"))
    rows = COCO(str(tmp_path / "out.json")).loadAnns([1, 2])
    assert [row["category_id"] for row in rows] == [9, 4]  # ids of the file
    assert [row["area"] for row in rows] == [400.0, 33.0]  # of the polygon; of the box
    assert rows[0]["num_keypoints"] == 1
    assert rows[0]["keypoints"] == [0, 5, 2, 8, 9, 0]
    assert rows[1]["iscrowd"] == 1


def one_record(own_annotation):
    def load():
        return [{"file_name": "a.jpg", "height": 50, "width": 50, "annotations": [own_annotation]}]

    DatasetCatalog.register("my_one", load)
    MetadataCatalog.get("my_one").set(thing_classes=["cat"])
    return convert_to_coco_dict("my_one")


def test_other_boxes_and_masks_are_converted(own_names):
    mask = np.zeros((50, 50), np.uint8)
    mask[5:10, 5:9] = 1
    box = np.array([5, 5, 9, 10], dtype=np.float32)
    contents = one_record(
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "segmentation": mask_util.encode(np.asfortranarray(mask)),
        }
    )
    (row,) = contents["annotations"]
    assert row["bbox"] == [5, 5, 4, 5]
    assert row["area"] == 20
    assert contents["images"][0]["id"] == 0  # the position, where a dict has no image_id
    assert contents["categories"] == [{"id": 0, "name": "cat"}]
    json.dumps(contents)


def test_rotated_boxes_stay_rotated(own_names):
    box = [20.0, 20.0, 10.0, 4.0, 30.0]
    instance = {"bbox": box, "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0}
    (row,) = one_record(instance)["annotations"]
    assert row["bbox"] == box
    assert row["area"] == 40


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"category_id": 1}, "a.jpg: category_id 1 is not one of the 1 thing_classes"),
        ({"bbox": [1, 2, 3]}, r"a.jpg: annotation number 0 has bbox \[1, 2, 3\]"),
        (
            {"segmentation": "x"},
            "a.jpg: annotation number 0 has segmentation 'x'; expected a list of polygons",
        ),
        (
            {"keypoints": [1, 2]},
            r"a.jpg: annotation number 0 has keypoints \[1, 2\]; expected x, y, visibility",
        ),
    ],
)
def test_what_coco_cannot_express_is_an_error(own_names, bad, message):
    good = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    with pytest.raises(ValueError, match=message):
        one_record({**good, **bad})


def test_an_existing_file_is_kept_unless_told_otherwise(write, own_names, tmp_path, caplog):
    register_coco_instances("my_train", {}, *write(example()))
    output = tmp_path / "out.json"
    output.write_text("old")
    convert_to_coco_json("my_train", str(output))
    assert output.read_text() == "old"
    assert "Using the existing" in caplog.text
    convert_to_coco_json("my_train", str(output), allow_cached=False)
    assert len(json.loads(output.read_text())["annotations"]) == 2
