"""Contents of a report, for detections made by hand."""

import json

import numpy as np
import pytest

from d2lite.commands import report_data
from d2lite.commands.report_data import collect
from tests.commands.reports import BAD, GOOD, make_run, write_dataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path)
    return tmp_path


def test_two_runs_are_compared_on_the_same_images(folder):
    make_run(folder, "a", GOOD)
    make_run(folder, "b", BAD)
    data = collect(["b", "a"], None, 10)
    names = [image["name"] for image in data["images"]]
    assert names[0] == "0.jpg"  # 0.9 for the wrong class, 1 for the object that is not found
    first = data["images"][0]
    kinds = [[data["kinds"][row[6]] for row in found] for found in first["found"]]
    assert kinds == [["class", "correct"], ["correct", "correct"]]
    assert first["objects"][0] == [5.0, 5.0, 55.0, 55.0, 0, 0]  # half of the size
    assert [row[5] for row in first["found"][1]] == [0.9, 0.8]
    bad = {kind: number for kind, number, _ in data["runs"][0]["errors"]}
    assert (bad["class"], bad["background"], bad["missed"]) == (1, 1, 1)
    matrix = np.array(data["runs"][0]["confusion"]["matrices"])[9]  # scores from 0.5 on
    assert matrix.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]


def test_few_images_are_the_worst_and_the_best(folder):
    make_run(folder, "b", BAD)
    names = [image["name"] for image in collect(["b"], None, 1)["images"]]
    assert names == ["0.jpg"]
    assert len(collect(["b"], None, 2)["images"]) == 2


def test_runs_without_detections_are_reported_without_them(folder):
    make_run(folder, "a", GOOD)
    (folder / "a/inference/coco_instances_results.json").unlink()
    (run,) = collect(["a"], None, 10)["runs"]
    assert "evaluate the run with `d2lite eval`" in run["notes"][0]
    assert run["curves"]["losses"]
    (folder / "a/config.yaml").write_text("model: {}\n")
    (run,) = collect(["a"], None, 10)["runs"]
    assert "lazy" in run["notes"][0]


def test_run_that_found_nothing(folder):
    make_run(folder, "a", [])
    data = collect(["a"], None, 10)
    errors = {kind: (number, gain) for kind, number, gain in data["runs"][0]["errors"]}
    assert errors["correct"] == (0, 0.0)
    assert errors["missed"][0] == 3


def test_images_are_left_out_where_the_page_would_be_too_large(folder, monkeypatch, caplog):
    make_run(folder, "a", GOOD)
    whole = len(json.dumps(collect(["a"], None, 10)["images"]))
    monkeypatch.setattr(report_data, "LIMIT_MIB", 0.7 * whole / 2**20)
    assert len(collect(["a"], None, 10)["images"]) == 2
    assert "2 images are shown" in caplog.text
