"""Panoptic annotations of Cityscapes, made small."""

import json

import pytest

from d2lite.data import MetadataCatalog
from d2lite.data.datasets.builtin_meta import cityscapes_panoptic_meta
from d2lite.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic

STEM = "aachen_000001_000019"


@pytest.fixture
def panoptic(tmp_path):
    """The folders of images and of id images, and the JSON file."""
    images, ids = tmp_path / "leftImg8bit/train", tmp_path / "gtFine/cityscapes_panoptic_train"
    (images / "aachen").mkdir(parents=True)
    (images / f"aachen/{STEM}_leftImg8bit.png").touch()
    ids.mkdir(parents=True)
    (ids / f"{STEM}_gtFine_panoptic.png").touch()
    row = {
        "image_id": STEM,
        "file_name": f"{STEM}_gtFine_panoptic.png",
        "segments_info": [{"id": 7, "category_id": 7}, {"id": 26001, "category_id": 26}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": [row]}))
    return str(images), str(ids), str(tmp_path / "panoptic.json")


def test_panoptic_records(panoptic, tmp_path):
    (record,) = load_cityscapes_panoptic(*panoptic, cityscapes_panoptic_meta())
    assert record == {
        "file_name": str(tmp_path / f"leftImg8bit/train/aachen/{STEM}_leftImg8bit.png"),
        "image_id": STEM,
        "sem_seg_file_name": str(tmp_path / f"gtFine/train/aachen/{STEM}_gtFine_labelTrainIds.png"),
        "pan_seg_file_name": f"{panoptic[1]}/{STEM}_gtFine_panoptic.png",
        "segments_info": [
            {"id": 7, "category_id": 0, "isthing": False},
            {"id": 26001, "category_id": 13, "isthing": True},
        ],
    }


def test_missing_panoptic_files_tell_how_to_make_them(panoptic, tmp_path):
    image_dir, ids, _ = panoptic
    with pytest.raises(FileNotFoundError, match=r"none\.json: .*createPanopticImgs"):
        load_cityscapes_panoptic(image_dir, ids, "none.json", cityscapes_panoptic_meta())
    (tmp_path / f"gtFine/cityscapes_panoptic_train/{STEM}_gtFine_panoptic.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"panoptic\.png: id image not found"):
        load_cityscapes_panoptic(*panoptic, cityscapes_panoptic_meta())


def test_annotations_of_absent_images_are_named(panoptic, tmp_path):
    (tmp_path / f"leftImg8bit/train/aachen/{STEM}_leftImg8bit.png").rename(
        tmp_path / "leftImg8bit/train/aachen/b_leftImg8bit.png"
    )
    with pytest.raises(FileNotFoundError, match=rf"train: there is no image '{STEM}'"):
        load_cityscapes_panoptic(*panoptic, cityscapes_panoptic_meta())


@pytest.mark.parametrize(
    "content, message",
    [
        ("{}", "panoptic.json: has no 'annotations'"),
        ('{"annotations": [{"image_id": 1}]}', "there is no image 1"),
        ('{"annotations": [{"file_name": "a.png"}]}', "panoptic.json: .*image_id"),
    ],
)
def test_malformed_files_are_named(panoptic, tmp_path, content, message):
    (tmp_path / "panoptic.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_cityscapes_panoptic(*panoptic, cityscapes_panoptic_meta())


@pytest.mark.parametrize("split", ["train", "val"])
def test_paths_of_the_registered_splits(split):
    metadata = MetadataCatalog.get(f"cityscapes_fine_panoptic_{split}")
    folder = metadata.panoptic_root.split("cityscapes/gtFine")[0] + "cityscapes/"
    assert metadata.image_root == f"{folder}leftImg8bit/{split}"
    assert metadata.panoptic_root == f"{folder}gtFine/cityscapes_panoptic_{split}"
    assert metadata.panoptic_json == f"{folder}gtFine/cityscapes_panoptic_{split}.json"
    assert metadata.gt_dir == f"{folder}gtFine/{split}"
