"""Listing a folder, finding images by what names them, and telling files apart."""

import json
import unicodedata

import pytest

from d2lite.data.layouts.files import Folder, json_keys, split_of
from d2lite.data.layouts.table import find_layout, read_folder
from tests.data.layouts.tiny import draw


@pytest.mark.parametrize(
    "path, split",
    [
        ("instances_train2017.json", "train"),
        ("train/labels/x.txt", "train"),
        ("train/val.csv", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("VOC2007_test.txt", "test"),
        ("Validation\\a.xml", "val"),
        ("trainval.txt", "train"),
        ("constrained/a.json", "all"),
        ("training set/b.json", "train"),
        ("a.json", "all"),
    ],
)
def test_splits_by_name(path, split):
    assert split_of(path) == split


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(
        ["train/a.jpg", "val/a.jpg", "JPEGImages/x.jpg", "masks/x.png", "deep/er/B.JPEG"]
    ):
        draw(tmp_path / name, number)
    draw(tmp_path / unicodedata.normalize("NFD", "größe 1.png"), 9)
    (tmp_path / ".hidden").mkdir()
    draw(tmp_path / ".hidden" / "h.jpg", 10)
    return Folder(str(tmp_path))


@pytest.mark.parametrize(
    "name, near, found",
    [
        ("train/a.jpg", "", "train/a.jpg"),
        ("a.jpg", "val/labels.json", "val/a.jpg"),
        ("a.jpg", "annotations/instances_val.json", "val/a.jpg"),
        ("C:\\photos\\val\\a.jpg", "", "val/a.jpg"),
        ("/home/me/train/a.jpg", "", "train/a.jpg"),
        ("x", "Annotations/x.xml", "JPEGImages/x.jpg"),  # not the mask
        ("b.jpg", "", "deep/er/B.JPEG"),  # another case and extension
        ("b", "", "deep/er/B.JPEG"),
        (
            unicodedata.normalize("NFC", "größe 1.png"),
            "",
            unicodedata.normalize("NFD", "größe 1.png"),
        ),
        ("h.jpg", "", None),
        ("nothing.jpg", "", None),
        ("", "", None),
    ],
)
def test_images_are_found_by_the_end_of_their_path(folder, name, near, found):
    assert folder.find_image(name, near) == (None if found is None else folder.path(found))


def test_a_name_that_fits_two_images_is_an_error(folder):
    with pytest.raises(ValueError, match=r"image 'a.jpg' may be train/a.jpg or val/a.jpg"):
        folder.find_image("a.jpg")


def test_an_annotation_file_finds_images_beside_it_or_above(tmp_path):
    draw(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "x.json").write_text("{}")
    folder = Folder(str(tmp_path / "annotations" / "x.json"))
    assert (folder.root, folder.only) == (str(tmp_path), "annotations/x.json")
    assert folder.candidates(".json") == ["annotations/x.json"]
    draw(tmp_path / "annotations" / "b.jpg")
    draw(tmp_path / "other" / "b.jpg")
    (tmp_path / "other" / "y.json").write_text("{}")
    assert Folder(str(tmp_path / "other" / "y.json")).root == str(tmp_path / "other")


def test_links_in_a_circle_end(tmp_path):
    draw(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert Folder(str(tmp_path)).images == ["in/a.jpg"]


def test_runs_beside_the_data_are_not_data(tmp_path):
    for name in ("a.jpg", "runs/train-1/seen.jpg", "output/x.jpg", "output/inference/y.jpg"):
        draw(tmp_path / name)
    assert Folder(str(tmp_path)).images == ["a.jpg", "output/inference/y.jpg", "output/x.jpg"]
    for name in ("config.yaml", "log.txt"):
        (tmp_path / "output" / name).touch()
    assert Folder(str(tmp_path)).files == ["a.jpg"]
    assert "x.jpg" in Folder(str(tmp_path / "output")).files


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the folder has no files"):
        Folder(str(tmp_path))


def test_keys_of_a_json_file_by_level(tmp_path):
    path = tmp_path / "x.json"
    content = {"a": 1, "b": {"c": [1], "d": {"no": 1}}, "e": [{"f": {"no": 2}}, 'x"y: {']}
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(json.dumps(content), encoding=encoding)
        assert json_keys(str(path)) == ({"a", "b", "e"}, {"c", "d"}, {"f"})
    path.write_text('{"a": {"b": "cut of')
    assert json_keys(str(path)) == ({"a"}, {"b"}, set())


def test_a_file_that_is_no_json_is_of_no_layout(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00no json")
    with pytest.raises(ValueError, match="no known layout"):
        find_layout(str(tmp_path))
    with pytest.raises(ValueError, match="no known layout"):
        read_folder(str(tmp_path / "x.json"))
