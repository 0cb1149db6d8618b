"""Reading COCO files, good and bad, and writing datasets as COCO files."""

import json
import logging

import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco import (
    convert_to_coco_dict,
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from d2lite.structures import BoxMode

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def example():
    """Two images, the later id first; categories with a gap in their ids."""
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 40, "width": 60},
            {"id": 3, "file_name": "a.jpg", "height": 50, "width": 50},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 9,
                "bbox": [10, 10, 20, 20],
                "iscrowd": 0,
                "segmentation": [SQUARE, [1, 2, 3, 4]],
                "keypoints": [0, 5, 2, 8, 9, 0],
                "score": 0.5,
            },
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5.5, 6], "iscrowd": 1},
        ],
    }


@pytest.fixture
def write(tmp_path):
    """Writes the contents of a COCO file; returns its path and the folder of its images."""
    (tmp_path / "images").mkdir()

    def write_file(contents, name="train.json"):
        path = tmp_path / name
        path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
        return str(path), str(tmp_path / "images")

    return write_file


@pytest.fixture
def own_names():
    """Remove what a test has registered under names that start with "my"."""
    yield
    for registry in (DatasetCatalog, MetadataCatalog):
        for name in [n for n in registry.list() if n.startswith("my")]:
            registry.remove(name)


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
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such annotation file"):
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
