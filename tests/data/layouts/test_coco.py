"""COCO's and Roboflow's JSON as people have it."""

import json

import pytest

from d2lite.data.layouts import find_layout, read_folder
from tests.data.layouts.tiny import draw


def example(
    names=("a.jpg", "b.jpg"), categories=({"id": 1, "name": "cat"}, {"id": 2, "name": "dog"})
):
    images = [
        {"id": i, "file_name": name, "height": 48, "width": 64} for i, name in enumerate(names, 1)
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [8, 8, 20, 24], "iscrowd": 0}
        for i in range(1, len(names) + 1)
    ]
    return {"images": images, "annotations": boxes, "categories": list(categories)}


def put(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding=encoding)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("a.jpg", "b.jpg")):
        draw(tmp_path / "photos" / name, number)
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_file_with_images_anywhere_below(photos, encoding):
    put(photos / "labels.json", example(), encoding)
    data = read_folder(str(photos))
    assert (data.layout, data.class_names, data.category_ids) == ("coco", ["cat", "dog"], [1, 2])
    assert list(data.splits) == ["all"]
    assert data.metadata()["thing_dataset_id_to_contiguous_id"] == {1: 0, 2: 1}
    assert read_folder(str(photos / "labels.json")).splits == data.splits


def test_keys_in_any_order_are_told(photos):
    content = dict(sorted(example().items()))
    content["annotations"] *= 5000  # the other keys come after what is looked at
    put(photos / "labels.json", content)
    assert find_layout(str(photos)) == "coco"


def test_windows_paths_of_another_machine(photos):
    put(photos / "l.json", example(("C:\\data\\photos\\a.jpg", "D:\\photos\\B.JPG")))
    found = [r["file_name"] for r in read_folder(str(photos)).records()]
    assert found == [str(photos / "photos" / name) for name in ("a.jpg", "b.jpg")]


def test_cocos_own_folder_takes_the_instances(tmp_path):
    for split in ("train2017", "val2017"):
        draw(tmp_path / split / "a.jpg", len(split))
        for kind in ("instances", "captions", "person_keypoints"):
            put(tmp_path / "annotations" / f"{kind}_{split}.json", example(("a.jpg",)))
    data = read_folder(str(tmp_path))
    assert {s: r[0]["file_name"] for s, r in data.splits.items()} == {
        "train": str(tmp_path / "train2017" / "a.jpg"),
        "val": str(tmp_path / "val2017" / "a.jpg"),
    }


def test_roboflow_without_its_dummy(tmp_path):
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "RBC", "supercategory": "cells"},
        {"id": 2, "name": "WBC", "supercategory": "cells"},
    ]
    for split in ("train", "valid"):
        draw(tmp_path / split / "a.jpg", len(split))
        put(tmp_path / split / "_annotations.coco.json", example(("a.jpg",), categories))
    data = read_folder(str(tmp_path))
    assert (data.layout, data.class_names) == ("roboflow", ["RBC", "WBC"])
    assert list(data.splits) == ["train", "val"]
    assert "left out category 'cells'" in data.notes[0]
    assert read_folder(str(tmp_path / "train" / "_annotations.coco.json")).class_names == [
        "RBC",
        "WBC",
    ]


def test_first_category_that_is_used_stays(photos):
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "RBC", "supercategory": "cells"},
        {"id": 2, "name": "WBC", "supercategory": "cells"},
    ]
    content = example(categories=categories)
    content["annotations"][0]["category_id"] = 0
    put(photos / "l.json", content)
    assert read_folder(str(photos)).class_names == ["cells", "RBC", "WBC"]


def test_classes_are_matched_by_name_over_the_files(photos):
    put(photos / "train.json", example(("a.jpg",)))
    other = example(("b.jpg",), ({"id": 1, "name": "cow"}, {"id": 2, "name": "dog"}))
    put(photos / "val.json", other)
    data = read_folder(str(photos))
    assert (data.class_names, data.category_ids) == (["cat", "dog", "cow"], None)
    assert [r[0]["annotations"][0]["category_id"] for r in data.splits.values()] == [1, 1]


def test_two_files_for_one_split_are_not_guessed_at(photos):
    put(photos / "one.json", example())
    put(photos / "two.json", example())
    with pytest.raises(
        ValueError, match=r"one.json and two.json are both COCO files; give the path"
    ):
        read_folder(str(photos))


def test_an_image_listed_twice(photos):
    put(photos / "l.json", example(("a.jpg", "photos/a.jpg")))
    with pytest.raises(
        ValueError, match=r"image .*a.jpg is listed 2 times; put its objects under one"
    ):
        read_folder(str(photos))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda c: c["annotations"][1].update(category_id=7),
            "annotation 2 of image 2 has category_id 7",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotation 1 of image 1 has bbox \[1, 2, 3\]",
        ),
        (lambda c: c.pop("categories"), "has no 'categories'"),
        (lambda c: c["images"][0].pop("height"), r"image number 0 \(id 1\) lacks \['height'\]"),
        (lambda c: c["images"][0].update(file_name=None), "has file_name None; expected a string"),
        (lambda c: c.update(annotations={}), "'annotations' must be a list of objects"),
    ],
)
def test_bad_files_name_the_place(photos, spoil, message):
    content = example()
    spoil(content)
    path = put(photos / "l.json", content)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(str(photos))
    assert path in str(error.value)


def test_a_file_that_is_cut_off(photos):
    path = put(photos / "l.json", example())
    text = (photos / "l.json").read_text()
    (photos / "l.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="the file seems to be cut off") as error:
        read_folder(path)
    assert path in str(error.value)
