"""Problems that a check of a data folder finds."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from d2lite.data.layouts import write_folder
from d2lite.data.layouts.check import check_folder
from tests.data.layouts.tiny import draw, labeled, record, thing


@pytest.fixture
def folder(tmp_path):
    """A dataset without a fault: 12 images of two classes in train, 10 in val."""
    names = {"train": [f"{i}.png" for i in range(12)], "val": [f"v{i}.png" for i in range(10)]}
    data = labeled(tmp_path, splits=names)
    write_folder(data, str(tmp_path / "data"), "coco")
    return tmp_path / "data"


def texts(report, severity):
    return [finding.text for finding in report.findings if finding.severity == severity]


def test_good_data_have_no_findings(folder):
    report = check_folder(str(folder))
    assert report.findings == [] and not report.has_errors()
    assert report.images == {"train": 12, "val": 10}
    assert report.classes[0]["name"] == "cat"
    assert dict(report.classes[0]["objects"]) == {"train": 12, "val": 10}
    assert report.sizes[0].tolist() == [20, 24]
    np.testing.assert_allclose(report.shares[0], [8 / 64, 8 / 48, 28 / 64, 32 / 48])
    assert report.per_image.tolist() == [2] * 22
    # Of areas 480 and 62.5 * 36.75, below and above 32 squared.
    assert report.size_shares() == (0.5, 0.5, 0.0)


def test_half_of_each_other_counts_as_crowded(tmp_path):
    data = labeled(
        tmp_path, lambda i: [thing(0), thing(1, (8, 8, 28, 20)), thing(1, (40, 1, 50, 9))]
    )
    write_folder(data, str(tmp_path / "data"), "voc")
    assert check_folder(str(tmp_path / "data")).crowded == pytest.approx(2 / 3)


@pytest.mark.parametrize("decode", [True, False])
def test_copies_between_splits_are_leaks(folder, decode):
    shutil.copy(folder / "images/train/3.png", folder / "images/val/v4.png")
    report = check_folder(str(folder), decode=decode)
    assert texts(report, "error") == [
        "leaks, the same file in train and val: 1, such as images/train/3.png and images/val/v4.png"
    ]
    assert report.has_errors()
    assert texts(report, "warning") == []


def test_pictures_saved_again_look_the_same(folder):
    with Image.open(folder / "images/train/3.png") as image:
        image.save(folder / "images/val/v4.png", compress_level=1)
        image.save(folder / "images/train/5.png", compress_level=1)
    report = check_folder(str(folder))
    (leak,) = [text for text in texts(report, "warning") if "leak" in text]
    assert leak.startswith("leaks, pictures that look the same in train and val: 1")
    assert not any(
        "look" in text for text in texts(check_folder(str(folder), decode=False), "warning")
    )


def test_copies_within_a_split_are_warned_of(folder):
    shutil.copy(folder / "images/train/3.png", folder / "images/train/4.png")
    assert texts(check_folder(str(folder)), "warning") == [
        "copies, the same file in a split: 1, such as images/train/3.png and images/train/4.png"
    ]


def test_damaged_images_are_errors(folder):
    path = folder / "images/train/3.png"
    path.write_bytes(path.read_bytes()[:200])
    (folder / "images/train/5.png").write_bytes(b"no image")
    report = check_folder(str(folder))
    (text,) = texts(report, "error")
    assert text.startswith("images that cannot be used: 2, the first is images/train/3.png: ")
    assert report.findings[0].files == ["images/train/3.png", "images/train/5.png"]


def test_sizes_that_differ_are_errors_and_turned_images_are_told(folder):
    draw(folder / "images/train/3.png", 3, size=(64, 48))
    (text,) = texts(check_folder(str(folder)), "error")
    assert "the image is 48 x 64 (width x height), but its annotation says 64 x 48" in text
    assert "without its EXIF rotation" in text


def test_missing_images_are_errors(folder):
    (folder / "images/train/3.png").unlink()
    (text,) = texts(check_folder(str(folder)), "error")
    assert text.startswith("images not found: 1, the first is train/3.png (image 4 of ")


def test_boxes_that_reach_out_are_tiny_or_double(tmp_path):
    def things(number):
        return [
            thing(0, (-20, 5, 30, 30)),
            thing(0, (10, 10, 11, 20)),
            thing(1, (20, 20, 40, 40)),
            thing(1, (20, 20, 40, 40.2)),
        ]

    write_folder(labeled(tmp_path, things), str(tmp_path / "data"), "coco")
    found = texts(check_folder(str(tmp_path / "data")), "warning")
    assert any(
        t.startswith("boxes that extend beyond their image by more than a pixel: 5,") for t in found
    )
    assert any(t.startswith("boxes less than 2 pixels wide or high: 5,") for t in found)
    assert any(
        t.startswith("pairs of boxes of one class that are nearly the same: 5,") for t in found
    )


def test_what_readers_leave_out_is_told_and_not_logged(tmp_path, caplog):
    data = labeled(tmp_path, lambda i: [thing(0), thing(1, (10, 10, 10, 20))])
    write_folder(data, str(tmp_path / "data"), "coco")
    with caplog.at_level(logging.WARNING):
        found = texts(check_folder(str(tmp_path / "data")), "warning")
    assert any("left out 3 annotations: 3 with a box without area" in text for text in found)
    assert caplog.text == ""
    assert logging.getLogger("d2lite.data").propagate


def test_classes_with_few_or_no_objects(tmp_path):
    data = labeled(tmp_path, lambda i: [thing(0 if i < 4 else 1)], names=("cat", "dog", "cow"))
    write_folder(data, str(tmp_path / "data"), "coco")
    assert texts(check_folder(str(tmp_path / "data")), "warning") == [
        "class 'cat' has no object in val",
        "class 'dog' has no object in train",
        "class 'cow' has no object",
    ]


def test_plain_pictures_are_not_taken_for_copies(tmp_path):
    data = labeled(tmp_path)
    for number, one in enumerate(data.records()):
        Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(one["file_name"])
    write_folder(data, str(tmp_path / "data"), "voc")
    assert not any(
        "look" in text for text in texts(check_folder(str(tmp_path / "data")), "warning")
    )


def test_images_without_objects(tmp_path):
    data = labeled(tmp_path, splits={"all": []})
    paths = [draw(tmp_path / f"{i}.png", i) for i in range(3)]
    data.splits["all"] = [record(path) for path in paths[:2]] + [record(paths[2], thing())]
    write_folder(data, str(tmp_path / "data"), "yolo")
    report = check_folder(str(tmp_path / "data"))
    assert report.empty == {"all": 2}
