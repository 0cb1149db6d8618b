"""Reading LVIS files, and the category tables."""

import json

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.lvis import (
    LVIS_V0_5_CATEGORIES,
    LVIS_V1_CATEGORIES,
    LVIS_V1_CATEGORY_IMAGE_COUNT,
    get_lvis_instances_meta,
    load_lvis_json,
    register_lvis_instances,
)
from d2lite.structures import BoxMode

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def example():
    address = "http://images.cocodataset.org/{}2017/{}.jpg"
    return {
        "images": [
            {"id": 9, "coco_url": address.format("train", 9), "height": 40, "width": 60},
            {
                "id": 4,
                "coco_url": address.format("val", 4),
                "height": 40,
                "width": 60,
                "neg_category_ids": [3],
                "not_exhaustive_category_ids": [5],
            },
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 4,
                "category_id": 1203,
                "bbox": [10, 10, 20, 20],
                "segmentation": [SQUARE, [1, 2]],
                "area": 400,
            }
        ],
        "categories": [{"id": 1203, "name": "zucchini"}],
    }


@pytest.fixture
def write(tmp_path):
    (tmp_path / "coco" / "val2017").mkdir(parents=True)

    def write_file(contents):
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps(contents))
        return str(path), str(tmp_path / "coco")

    return write_file


def test_records_have_the_split_s_folder_and_lvis_s_lists(write, own_names):
    json_file, root = write(example())
    val, train = load_lvis_json(json_file, root, "my_lvis_v1", ["area"])
    assert val["file_name"] == f"{root}/val2017/4.jpg"
    assert train["file_name"] == f"{root}/train2017/9.jpg"
    assert (val["image_id"], val["height"], val["width"]) == (4, 40, 60)
    assert (val["neg_category_ids"], val["not_exhaustive_category_ids"]) == ([3], [5])
    assert (train["neg_category_ids"], train["not_exhaustive_category_ids"]) == ([], [])
    assert val["annotations"] == [
        {
            "bbox": [10, 10, 20, 20],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 1202,
            "segmentation": [SQUARE],
            "area": 400,
        }
    ]
    assert MetadataCatalog.get("my_lvis_v1").thing_classes[1202] == "zucchini"


def test_cocofied_files_use_coco_s_ids(write, own_names):
    contents = example()
    contents["annotations"][0]["category_id"] = 90  # toothbrush, the 80th
    register_lvis_instances(
        "my_lvis_cocofied", get_lvis_instances_meta("my_lvis_cocofied"), *write(contents)
    )
    val, _ = DatasetCatalog.get("my_lvis_cocofied")
    assert val["annotations"][0]["category_id"] == 79
    assert MetadataCatalog.get("my_lvis_cocofied").evaluator_type == "lvis"


def test_files_of_test_images_need_no_annotations(write):
    contents = example()
    del contents["annotations"]
    assert [r["annotations"] for r in load_lvis_json(*write(contents))] == [[], []]


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "category_id",
            0,
            "annotation 1 .* has category_id 0, which is not a known category",
        ),
        ("category_id", None, "annotation 1 of image 4 has category_id None"),
        ("segmentation", [[1, 2, 3, 4]], "not one of the 1 .* with no polygon of three points"),
        (
            "segmentation",
            {"counts": "x"},
            "annotation 1 .* needs a 'segmentation' of polygons",
        ),
        ("bbox", [1, 2, 3], r"annotation 1 of image 4 has bbox \[1, 2, 3\]"),
    ],
)
def test_bad_annotations_are_named(write, key, value, message):
    contents = example()
    contents["annotations"][0][key] = value
    with pytest.raises(ValueError, match=rf"lvis\.json: {message}"):
        load_lvis_json(*write(contents))


def test_a_missing_image_folder_is_named(write):
    json_file, root = write(example())
    with pytest.raises(FileNotFoundError, match=r"its images should be in .*elsewhere"):
        load_lvis_json(json_file, f"{root}/elsewhere")


def test_tables_have_lvis_s_published_sizes():
    """1203 categories: 337 rare, 461 common, 405 frequent; v0.5: 1230: 454, 461, 315."""
    for table, sizes in (
        (LVIS_V1_CATEGORIES, {"r": 337, "c": 461, "f": 405}),
        (LVIS_V0_5_CATEGORIES, {"r": 454, "c": 461, "f": 315}),
    ):
        assert [c["id"] for c in table] == list(range(1, sum(sizes.values()) + 1))
        assert len({c["name"] for c in table}) == len(table)
        groups = [c["frequency"] for c in table]
        assert {g: groups.count(g) for g in sizes} == sizes


def test_image_counts_fit_the_frequency_groups():
    for category, row in zip(LVIS_V1_CATEGORIES, LVIS_V1_CATEGORY_IMAGE_COUNT, strict=True):
        assert category["id"] == row["id"]
        group = "r" if row["image_count"] <= 10 else "c" if row["image_count"] <= 100 else "f"
        assert group == category["frequency"], category


def test_names_tell_the_version():
    assert len(get_lvis_instances_meta("lvis_v0.5_train")["thing_classes"]) == 1230
    assert len(get_lvis_instances_meta("lvis_v1_train")["thing_classes"]) == 1203
    assert len(get_lvis_instances_meta("lvis_v0.5_val_cocofied")["thing_classes"]) == 80
    with pytest.raises(ValueError, match=r"must contain 'v1', 'v0\.5' or 'cocofied'"):
        get_lvis_instances_meta("lvis_train")


def test_addresses_that_are_no_text_are_errors(write):
    contents = example()
    contents["images"][0]["coco_url"] = 4
    with pytest.raises(
        ValueError, match=r"image number 0 \(id 9\) has coco_url 4; expected a string"
    ):
        load_lvis_json(*write(contents))


@pytest.mark.parametrize("frequency", ["x", None])
def test_frequencies_are_taken_where_all_are_known(write, frequency):
    """Without them the evaluator says before a training that it needs them."""
    contents = example()
    contents["categories"][0]["frequency"] = frequency
    load_lvis_json(*write(contents), "lvis_frequencies")
    assert MetadataCatalog.get("lvis_frequencies").get("category_frequency") is None
    MetadataCatalog.remove("lvis_frequencies")
