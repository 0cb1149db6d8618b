"""Reading Cityscapes' files, made small."""

import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.datasets import cityscapes
from d2lite.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic

PERSON, CAR = 0, 2  # positions among the eight classes
STEM = "aachen_000001_000019"


def square(x0, y0, x1, y1):
    """A polygon of the pixels from x0, y0 to x1, y1, both included."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


@pytest.fixture
def folder(tmp_path):
    images, labels = tmp_path / "leftImg8bit/train/aachen", tmp_path / "gtFine/train/aachen"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    (images / f"{STEM}_leftImg8bit.png").touch()
    objects = [
        {"label": "road", "polygon": square(0, 0, 39, 29)},
        {"label": "car", "polygon": square(5, 5, 14, 14)},
        {"label": "persongroup", "polygon": square(20, 5, 24, 14)},
        {"label": "pole", "polygon": square(10, 0, 14, 29)},  # hides the right half of the car
        {"label": "license plate", "polygon": square(5, 12, 9, 14)},  # hides nothing
    ]
    (labels / f"{STEM}_gtFine_polygons.json").write_text(
        json.dumps({"imgHeight": 30, "imgWidth": 40, "objects": objects})
    )
    ids = np.full((30, 40), 7, np.uint16)
    ids[5:15, 5:15] = 26001
    ids[:, 10:15] = 17
    ids[5:15, 20:25] = 24
    ids[0, 30] = 26002  # a single pixel
    cv2.imwrite(str(labels / f"{STEM}_gtFine_instanceIds.png"), ids)
    (labels / f"{STEM}_gtFine_labelTrainIds.png").touch()
    return tmp_path


def folders(folder):
    return str(folder / "leftImg8bit/train"), str(folder / "gtFine/train")


def mask_of(instance, height=30, width=40):
    segmentation = instance["segmentation"]
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    return mask_util.decode(segmentation).astype(bool)


def test_polygons_are_cut_by_what_lies_in_front(folder):
    pytest.importorskip("shapely")
    (record,) = load_cityscapes_instances(*folders(folder))
    assert (record["height"], record["width"]) == (30, 40)
    assert record["image_id"] == f"{STEM}_leftImg8bit.png"
    people, car = record["annotations"]  # from front to back
    assert (people["category_id"], people["iscrowd"]) == (PERSON, 1)
    assert (car["category_id"], car["iscrowd"]) == (CAR, 0)
    np.testing.assert_allclose(car["bbox"], [5, 5, 10, 15])
    expected = np.zeros((30, 40), bool)
    expected[5:15, 5:10] = True
    assert (mask_of(car) != expected).sum() <= 4  # corners are round


@pytest.mark.parametrize("to_polygons", [True, False])
def test_id_images_give_the_same_instances(folder, to_polygons):
    (record,) = load_cityscapes_instances(*folders(folder), False, to_polygons)
    people, car = record["annotations"]  # by id
    assert (people["category_id"], people["iscrowd"]) == (PERSON, 1)
    assert (car["category_id"], car["iscrowd"]) == (CAR, 0)
    assert car["bbox"] == [5, 5, 9, 14]
    assert isinstance(car["segmentation"], list) == to_polygons
    if not to_polygons:
        expected = np.zeros((30, 40), bool)
        expected[5:15, 5:10] = True
        np.testing.assert_array_equal(mask_of(car), expected)


def test_run_lengths_cannot_come_from_polygons(folder):
    with pytest.raises(ValueError, match="use from_json=False for RLE"):
        load_cityscapes_instances(*folders(folder), True, False)


def test_many_files_are_read_by_workers_in_the_same_order(folder, monkeypatch):
    image_dir, gt_dir = folders(folder)
    for index in range(4):
        stem = f"aachen_{index:06}_000000"
        (folder / f"leftImg8bit/train/aachen/{stem}_leftImg8bit.png").touch()
        source = folder / f"gtFine/train/aachen/{STEM}_gtFine_instanceIds.png"
        target = folder / f"gtFine/train/aachen/{stem}_gtFine_instanceIds.png"
        target.write_bytes(source.read_bytes())
    one_by_one = load_cityscapes_instances(image_dir, gt_dir, False)
    monkeypatch.setattr(cityscapes, "_FILES_FOR_WORKERS", 2)
    monkeypatch.setattr(cityscapes.os, "cpu_count", lambda: 2)
    assert load_cityscapes_instances(image_dir, gt_dir, False) == one_by_one
    assert len(one_by_one) == 5


def test_semantic_labels(folder):
    (record,) = load_cityscapes_semantic(*folders(folder))
    assert record["sem_seg_file_name"].endswith(f"train/aachen/{STEM}_gtFine_labelTrainIds.png")
    assert (record["height"], record["width"]) == (30, 40)


def test_missing_files_tell_how_to_make_them(folder, tmp_path):
    image_dir, gt_dir = folders(folder)
    with pytest.raises(FileNotFoundError, match=r"none: folder of Cityscapes"):
        load_cityscapes_semantic(str(tmp_path / "none"), gt_dir)
    with pytest.raises(FileNotFoundError, match="there is no CITY/"):
        load_cityscapes_semantic(gt_dir, gt_dir)
    (folder / f"gtFine/train/aachen/{STEM}_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"labelTrainIds.*createTrainIdLabelImgs"):
        load_cityscapes_semantic(image_dir, gt_dir)


def test_unknown_labels_are_named(folder):
    pytest.importorskip("shapely")
    path = folder / f"gtFine/train/aachen/{STEM}_gtFine_polygons.json"
    path.write_text(path.read_text().replace('"pole"', '"robot"'))
    with pytest.raises(ValueError, match=r"polygons\.json: 'robot' is not a Cityscapes label"):
        load_cityscapes_instances(*folders(folder))
