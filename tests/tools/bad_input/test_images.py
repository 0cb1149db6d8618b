"""Errors of train_net.py for images that do not decode or have the wrong size."""

import json
import re

import pytest

from tests.tools.bad_input.runs import coco_data, train_on, write_coco


def cut_off(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_decode_stops_the_run_with_its_path(main, good, tmp_path, workers):
    cut_off(tmp_path / "good/images/1.jpg")
    outcome = main(SOLVER__MAX_ITER=8, DATALOADER__NUM_WORKERS=workers, **train_on(good))
    assert outcome.code == 1
    assert re.search(r"good/images/1\.jpg: the image does not decode", outcome.error)
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()  # for those who want to know


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_can_be_skipped_and_are_counted(main, good, tmp_path, workers):
    cut_off(tmp_path / "good/images/1.jpg")
    outcome = main(
        SOLVER__MAX_ITER=8,
        DATALOADER__NUM_WORKERS=workers,
        DATALOADER__ON_BAD_SAMPLE="skip",
        **train_on(good),
    )
    assert outcome.code == 0
    assert outcome.out.count("Skipped a sample") == 1  # one line for each file
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    # 16 samples are drawn from four images in shuffled rounds: each image four times.
    assert json.loads(lines[-1])["data/num_skipped"] >= 4


def test_nothing_but_bad_images(main, good, tmp_path):
    for i in range(4):
        (tmp_path / f"good/images/{i}.jpg").write_bytes(b"no image")
    outcome = main(DATALOADER__ON_BAD_SAMPLE="skip", **train_on(good))
    assert outcome.code == 1
    assert re.search(r"samples in a row .*images/\d\.jpg: not an image", outcome.error)


def test_a_size_that_is_not_the_images(main, tmp_path):
    data = coco_data()
    for image in data["images"]:
        image["height"] = 50
    outcome = main(**train_on(write_coco(tmp_path / "bad", data)))
    assert outcome.code == 1
    assert re.search(r"\.jpg: the image is 48 x 64 .* but its dataset says 50 x 64", outcome.error)
