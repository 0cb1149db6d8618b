"""Panoptic registrations in both forms."""

import json

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco_panoptic import (
    load_coco_panoptic_json,
    merge_to_panoptic,
    register_coco_panoptic,
    register_coco_panoptic_separated,
)

META = {
    "thing_classes": ["cat"],
    "thing_dataset_id_to_contiguous_id": {5: 0},
    "stuff_dataset_id_to_contiguous_id": {9: 1},
}


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "ids", "labels"):
        (tmp_path / name).mkdir()
    for name in ("images/1.jpg", "ids/1.png", "labels/1.png"):
        (tmp_path / name).touch()
    segments = [{"id": 300, "category_id": 5, "area": 4}, {"id": 7, "category_id": 9, "area": 3}]
    row = {"image_id": 1, "file_name": "1.png", "segments_info": segments}
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": [row]}))
    instances = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 9, "width": 9}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 5, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    yield tmp_path
    for registry in (DatasetCatalog, MetadataCatalog):
        for name in [n for n in registry.list() if n.startswith("my")]:
            registry.remove(name)


def test_the_standard_form(folder):
    register_coco_panoptic(
        "my",
        META,
        f"{folder}/images",
        f"{folder}/ids",
        f"{folder}/panoptic.json",
        f"{folder}/instances.json",
    )
    assert DatasetCatalog.get("my") == [
        {
            "file_name": f"{folder}/images/1.jpg",
            "image_id": 1,
            "pan_seg_file_name": f"{folder}/ids/1.png",
            "segments_info": [
                {"id": 300, "category_id": 0, "area": 4, "isthing": True},
                {"id": 7, "category_id": 1, "area": 3, "isthing": False},
            ],
        }
    ]
    metadata = MetadataCatalog.get("my")
    assert (metadata.evaluator_type, metadata.label_divisor) == ("coco_panoptic_seg", 1000)
    assert metadata.json_file == f"{folder}/instances.json"


def test_the_separated_form(folder):
    register_coco_panoptic_separated(
        "my",
        META,
        f"{folder}/images",
        f"{folder}/ids",
        f"{folder}/panoptic.json",
        f"{folder}/labels",
        f"{folder}/instances.json",
    )
    (record,) = DatasetCatalog.get("my_separated")
    assert record["sem_seg_file_name"] == f"{folder}/labels/1.png"
    assert record["annotations"][0]["category_id"] == 0
    assert DatasetCatalog.get("my_stuffonly") == [
        {
            "file_name": f"{folder}/images/1.jpg",
            "sem_seg_file_name": f"{folder}/labels/1.png",
        }
    ]
    assert MetadataCatalog.get("my_separated").evaluator_type == "coco_panoptic_seg"
    assert MetadataCatalog.get("my_stuffonly").evaluator_type == "sem_seg"


def test_unknown_categories_are_named(folder):
    meta = {**META, "stuff_dataset_id_to_contiguous_id": {}}
    with pytest.raises(ValueError, match=r"panoptic\.json: segment 7 has category_id 9, which is"):
        load_coco_panoptic_json(
            f"{folder}/panoptic.json", f"{folder}/images", f"{folder}/ids", meta
        )


def test_other_files_are_told_apart(folder):
    with pytest.raises(ValueError, match=r"annotation number 0 lacks one of .* panoptic file"):
        load_coco_panoptic_json(
            f"{folder}/instances.json", f"{folder}/images", f"{folder}/ids", META
        )


@pytest.mark.parametrize("images, ids", [("none", "ids"), ("images", "none")])
def test_missing_folders_are_named(folder, images, ids):
    with pytest.raises(FileNotFoundError, match=r"its images should be in .*none"):
        load_coco_panoptic_json(
            f"{folder}/panoptic.json", f"{folder}/{images}", f"{folder}/{ids}", META
        )


def test_images_without_labels_are_named():
    with pytest.raises(ValueError, match=r"b\.jpg: has instance annotations but no semantic"):
        merge_to_panoptic(
            [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}],
            [{"file_name": "a.jpg", "sem_seg_file_name": "a.png"}],
        )
