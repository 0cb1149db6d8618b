"""Reading COCO files, good and bad."""

import json
import logging

import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco import load_coco_json, load_sem_seg, register_coco_instances
from d2lite.structures import BoxMode
from tests.data.datasets.tiny import SQUARE, example


def test_images_come_by_id_with_contiguous_categories(write, own_names):
    records = load_coco_json(*write(example()), "my_train")
    assert [r["image_id"] for r in records] == [3, 7]
    assert records[0]["annotations"] == []
    assert records[1]["file_name"].endswith("images/b.jpg")
    assert (records[1]["height"], records[1]["width"]) == (40, 60)
    dog, cat = records[1]["annotations"]
    assert (dog["category_id"], cat["category_id"]) == (1, 0)
    assert dog["bbox"] == [10, 10, 20, 20]
    assert dog["bbox_mode"] == BoxMode.XYWH_ABS
    assert cat["iscrowd"] == 1
    assert "score" not in dog
    metadata = MetadataCatalog.get("my_train")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}


def test_polygons_without_three_points_are_left_out(write):
    (instance, _) = load_coco_json(*write(example()))[1]["annotations"]
    assert instance["segmentation"] == [SQUARE]


def test_an_instance_without_valid_polygon_is_dropped_and_reported(write, caplog):
    contents = example()
    contents["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    records = load_coco_json(*write(contents))
    assert len(records[1]["annotations"]) == 1
    assert "left out 1 annotations: 1 with no polygon of three points" in caplog.text


def test_keypoints_move_by_half_a_pixel_but_not_their_visibility(write):
    instance = load_coco_json(*write(example()))[1]["annotations"][0]
    assert instance["keypoints"] == [0.5, 5.5, 2, 8.5, 9.5, 0]


def test_without_a_name_categories_are_those_of_the_file(write):
    instances = load_coco_json(*write(example()))[1]["annotations"]
    assert [a["category_id"] for a in instances] == [9, 4]


def test_extra_annotation_keys_are_kept(write):
    records = load_coco_json(*write(example()), extra_annotation_keys=["score"])
    assert records[1]["annotations"][0]["score"] == 0.5


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_come_compressed(write, compressed):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 1
    counts = [10 * 40 + 10, *[20, 20] * 19, 20, 29 * 40 + 30 + 10 - 30]  # column by column
    counts[-1] = 40 * 60 - sum(counts[:-1])
    rle = {"size": [40, 60], "counts": counts}
    if compressed:
        rle = mask_util.encode(np.asfortranarray(mask))
        rle["counts"] = rle["counts"].decode()
    contents = example()
    contents["annotations"][0]["segmentation"] = rle
    instance = load_coco_json(*write(contents))[1]["annotations"][0]
    np.testing.assert_array_equal(mask_util.decode(instance["segmentation"]), mask)


def test_files_of_test_images_need_no_annotations(write):
    contents = example()
    del contents["annotations"]
    assert [r["annotations"] for r in load_coco_json(*write(contents))] == [[], []]


def test_boxes_without_area_are_left_out_and_reported(write, caplog):
    contents = example()
    contents["annotations"][0]["bbox"] = [1, 2, 0, 5]
    records = load_coco_json(*write(contents))
    assert len(records[1]["annotations"]) == 1
    assert "1 with a box without area (the first is annotation 1 of image 7)" in caplog.text


def test_annotations_of_unlisted_images_are_left_out_and_reported(write, caplog):
    contents = example()
    contents["annotations"][1]["image_id"] = 99
    records = load_coco_json(*write(contents))
    assert len(records[1]["annotations"]) == 1
    assert "left out 1 annotations of images that are not in" in caplog.text


def change(path, value):
    """A bad file: the example with the entry at `path` changed, or removed where value is ..."""
    contents = example()
    place = contents
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return contents


BAD = {
    "cut off": (json.dumps(example(), indent=1)[:-40], r"train\.json: not valid JSON at line \d+"),
    "cut in a word": (json.dumps(example())[:150], r"character \d+ of 150.*cut off"),
    "empty": ("", r"line 1, column 1 .*cut off"),
    "binary": ("\x00\x01", "not valid JSON"),
    "a list": ("[]", "expected a JSON object, found a list"),
    "no images": (change(["images"], ...), "has no 'images'; a COCO file has"),
    "no categories": (change(["categories"], ...), "has no 'categories'"),
    "empty categories": (change(["categories"], []), "'categories' is empty"),
    "category without name": (change(["categories", 0, "name"], ...), "category number 0 needs"),
    "category twice": (change(["categories", 0, "id"], 4), r"category ids .*: 4 \(2 times\)"),
    "images no list": (change(["images"], {"a": 1}), "'images' must be a list of objects"),
    "image without size": (change(["images", 1, "width"], ...), r"image number 1 .*\['width'\]"),
    "image twice": (change(["images", 0, "id"], 3), r"image ids .*: 3 \(2 times\)"),
    "unlisted category": (
        change(["annotations", 1, "category_id"], 91),
        "annotation 2 .* has category_id 91, absent from its 'categories'; add it or drop the box",
    ),
    "no category": (change(["annotations", 1, "category_id"], ...), "annotation 2 .*None, absent"),
    "no box": (change(["annotations", 1, "bbox"], ...), r"annotation 2 of image 7 has bbox None"),
    "short box": (change(["annotations", 1, "bbox"], [1, 2, 3]), r"annotation 2 .*\[1, 2, 3\]"),
    "negative side": (change(["annotations", 1, "bbox"], [1, 2, -3, 4]), "annotation 2 .*at least"),
    "nan": (change(["annotations", 1, "bbox"], [1, 2, float("nan"), 4]), "annotation 2 .*finite"),
    "words": (change(["annotations", 1, "bbox"], ["a", 2, 3, 4]), "annotation 2 .*expected"),
    "ignored": (change(["annotations", 1, "ignore"], 1), "annotation 2 .*has 'ignore' set"),
    "odd mask": (change(["annotations", 0, "segmentation"], "x"), "annotation 1 .*polygons"),
    "flat mask": (change(["annotations", 0, "segmentation"], SQUARE), "annotation 1 .*polygons"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_clear_line(write, own_names, kind):
    contents, message = BAD[kind]
    with pytest.raises(ValueError, match=message) as caught:
        load_coco_json(*write(contents), "my_train")
    assert "train.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: annotation file not found"):
        load_coco_json(str(tmp_path / "none.json"), str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is a folder; give the annotation file in it"):
        load_coco_json(str(tmp_path), str(tmp_path))


def test_a_byte_order_mark_is_skipped(write):
    json_file, images = write(example())
    with open(json_file, encoding="utf-8") as f:
        text = f.read()
    with open(json_file, "w", encoding="utf-8-sig") as f:
        f.write(text)
    assert len(load_coco_json(json_file, images)) == len(example()["images"])


def test_a_missing_image_folder_is_named(write):
    json_file, images = write(example())
    with pytest.raises(FileNotFoundError, match=r"train\.json: its images should be in .*photos"):
        load_coco_json(json_file, images.replace("images", "photos"))
    assert load_coco_json(json_file, "")  # no folder: names may be complete


@pytest.mark.parametrize("new_id", [2, 0, -5, "1", "a-1", 1.5, None, ...])
def test_ids_of_annotations_play_no_part(write, new_id):
    """COCO's own minival files have some twice."""
    contents = change(["annotations", 0, "id"], new_id)
    assert [len(r["annotations"]) for r in load_coco_json(*write(contents))] == [0, 2]


def test_registered_data_are_read_at_get(write, own_names):
    json_file, images = write(example())
    register_coco_instances("my_train", {"note": 1}, json_file, images)
    metadata = MetadataCatalog.get("my_train")
    assert (metadata.json_file, metadata.image_root) == (json_file, images)
    assert (metadata.evaluator_type, metadata.note) == ("coco", 1)
    assert "thing_classes" not in metadata.as_dict()
    assert len(DatasetCatalog.get("my_train")) == 2
    assert metadata.thing_classes == ["cat", "dog"]


def test_semantic_labels_pair_by_relative_path(tmp_path, caplog):
    for name in ("x/1.jpg", "x/2.jpg", "3.jpg", "4.JPEG"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    for name in ("x/1.png", "3.png", "5.png"):
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / name).touch()
    with caplog.at_level(logging.WARNING):
        records = load_sem_seg(str(tmp_path / "labels"), str(tmp_path / "images"))
    assert [r["file_name"][len(str(tmp_path)) :] for r in records] == [
        "/images/3.jpg",
        "/images/x/1.jpg",
    ]
    assert records[1]["sem_seg_file_name"].endswith("labels/x/1.png")
    assert "left out 2 files without a partner" in caplog.text


def test_semantic_folders_without_pairs_or_missing_are_errors(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no '\*.jpg' in .* has a '\*.png'"):
        load_sem_seg(str(tmp_path / "images"), str(tmp_path / "images"))
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*labels"):
        load_sem_seg(str(tmp_path / "labels"), str(tmp_path / "images"))


def test_a_large_file_is_read_at_a_good_pace(write):
    """20,000 boxes in well under a second of computing; COCO has 860,000."""
    import time

    contents = example()
    contents["images"] = [
        {"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 9} for i in range(4000)
    ]
    contents["annotations"] = [
        {"id": i, "image_id": i % 4000, "category_id": 4, "bbox": [1, 2, 3, 4], "iscrowd": 0}
        for i in range(20000)
    ]
    json_file, images = write(contents)
    start = time.process_time()
    records = load_coco_json(json_file, images)
    assert time.process_time() - start < 2
    assert sum(len(r["annotations"]) for r in records) == 20000
