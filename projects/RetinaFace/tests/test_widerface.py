"""WIDER FACE text files, line by line, and as a URI."""

import numpy as np
import pytest
from PIL import Image

from d2lite.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from d2lite.data.detection_utils import create_keypoint_hflip_indices
from d2lite.evaluation import evaluator_for
from d2lite.projects.retinaface import LandmarkEvaluator, load_widerface
from d2lite.structures import BoxMode

POINTS = "12 14 0.0 18 14 0.0 15 17 1.0 12 20 0.0 -1 -1 -1"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images/parade").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(
            tmp_path / f"images/parade/{name}.png"
        )
    return tmp_path


def write(folder, text):
    (folder / "label.txt").write_text(text)
    return str(folder / "label.txt"), str(folder / "images")


def test_faces_and_landmarks_are_read(folder):
    text = f"# parade/a.png\n10 11 12 13 {POINTS} 0.82\n1 2 0 4\n5 6 7 8\n# parade/b.png\n"
    first, second = load_widerface(*write(folder, text))
    assert first["file_name"] == str(folder / "images/parade/a.png")
    assert (first["height"], first["width"], first["image_id"]) == (40, 60, 0)
    assert second["annotations"] == [] and second["image_id"] == 1
    face, plain = first["annotations"]  # the one without extent is left out
    assert face["bbox"] == [10, 11, 12, 13] and face["bbox_mode"] == BoxMode.XYWH_ABS
    assert face["keypoints"] == [12, 14, 2, 18, 14, 2, 15, 17, 1, 12, 20, 2, 0, 0, 0]
    assert plain["bbox"] == [5, 6, 7, 8] and plain["keypoints"] == [0] * 15


@pytest.mark.parametrize(
    "text, message",
    [
        ("# parade/a.png\n1 2 three 4\n", "label.txt:2: could not convert"),
        ("# parade/a.png\n1 2 3 4 5\n", "label.txt:2: a face has 4 or 19 or 20 numbers, found 5"),
        ("1 2 3 4\n", "label.txt:1: a face before any"),
        ("", "no line names an image"),
    ],
)
def test_malformed_lines_are_named(folder, text, message):
    with pytest.raises(ValueError, match=message):
        load_widerface(*write(folder, text))


def test_missing_images_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"parade/c\.png"):
        load_widerface(*write(folder, "# parade/c.png\n"))


def test_uri_gives_data_metadata_and_evaluator(folder):
    label, images = write(folder, f"# parade/a.png\n10 11 12 13 {POINTS}\n")
    uri = f"widerface:{label}"
    assert DatasetCatalog.get(uri) == load_widerface(label, images)
    assert DatasetCatalog.get(f"{uri}?images={images}") == DatasetCatalog.get(uri)
    assert MetadataCatalog.get(uri).thing_classes == ["face"]
    assert create_keypoint_hflip_indices(uri) == [1, 0, 2, 4, 3]
    assert any(isinstance(e, LandmarkEvaluator) for e in evaluator_for(uri)._evaluators)
    loader = build_detection_test_loader(DatasetCatalog.get(uri), mapper=lambda record: record)
    assert next(iter(loader))[0]["width"] == 60


@pytest.mark.parametrize(
    "rest, message",
    [
        ("?images=nowhere", "image folder 'nowhere' not found"),
        ("?classes=face", "has one class"),
        ("?image=x", "unknown option 'image'"),
        ("x", "file not found"),
    ],
)
def test_wrong_uris_are_told(folder, rest, message):
    label, _ = write(folder, "# parade/a.png\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        DatasetCatalog.get(f"widerface:{label}{rest}")
