"""`d2lite report`: what the page says of detections that are made by hand."""

import json
import re

import cv2
import numpy as np
import pytest

from d2lite import commands
from d2lite.commands.report_data import collect
from d2lite.config import get_cfg

CLASSES = ["cat", "</script><b>dog"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images, of which the first has an object of each class, the second one of class 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    images = []
    for number in range(3):
        cv2.imwrite(f"photos/{number}.jpg", np.full((400, 720, 3), 80 * number, np.uint8))
        row = {"id": number + 7, "file_name": f"{number}.jpg", "height": 400, "width": 720}
        images.append(row)
    objects = [(7, 3, [10, 10, 100, 100]), (7, 5, [300, 200, 80, 80]), (8, 3, [50, 50, 60, 60])]
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0,
         "area": box[2] * box[3]}
        for i, (image, category, box) in enumerate(objects)
    ]  # fmt: skip
    categories = [{"id": 3, "name": CLASSES[0]}, {"id": 5, "name": CLASSES[1]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "val.json").write_text(json.dumps(content))
    return tmp_path


def make_run(folder, name: str, detections: list) -> str:
    """The folder of a run with detections (image id, category, box, score)."""
    run = folder / name
    (run / "inference").mkdir(parents=True)
    cfg = get_cfg()
    cfg.DATASETS.TEST = (f"coco:{folder}/val.json?images={folder}/photos",)
    cfg.SOLVER.IMS_PER_BATCH = 8
    (run / "config.yaml").write_text(cfg.dump())
    lines = [{"iteration": i, "total_loss": 2.0 / (i + 1), "time": 0.5} for i in range(5)]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    (run / "log.txt").write_text(
        "[01/01 00:00:00] d2 INFO: Environment:\n----\nPython  3.11\n----\nPyTorch built with:\n"
    )
    keys = ("image_id", "category_id", "bbox", "score")
    rows = [dict(zip(keys, row, strict=True)) for row in detections]
    (run / "inference/coco_instances_results.json").write_text(json.dumps(rows))
    return name


GOOD = [(7, 3, [10, 10, 100, 100], 0.9), (7, 5, [300, 200, 80, 80], 0.8),
        (8, 3, [50, 50, 60, 60], 0.7)]  # fmt: skip
BAD = [(7, 5, [10, 10, 100, 100], 0.9), (7, 5, [300, 200, 80, 80], 0.8),
       (9, 3, [50, 50, 60, 60], 0.7)]  # fmt: skip


def data_of(path) -> dict:
    match = re.search(r"^const D = (.*);$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return json.loads(match[1])


def test_page_is_one_file_with_everything(folder, capsys):
    make_run(folder, "a", GOOD)
    commands.main(["report", "a"])
    assert "Wrote a/report.html" in capsys.readouterr().out
    text = (folder / "a/report.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 1  # the class name does not end it
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|fetch\(|XMLHttp""", text)
    data = data_of(folder / "a/report.html")
    (run,) = data["runs"]
    assert data["classes"] == CLASSES
    assert run["ap"]["bbox"]["all classes"]["AP"] == pytest.approx(100)
    assert run["objects"] == [2, 1]
    assert ["SOLVER.IMS_PER_BATCH", "8", "16"] in run["config"]
    assert "Python  3.11" in run["environment"]
    assert run["curves"]["images per second"]["images per second"][1] == [16.0] * 5
    assert [image["width"] for image in data["images"]] == [360] * 3
    assert data["images"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert {k: n for k, n, _ in run["errors"]}["correct"] == 3


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
    assert "evaluate the run by `d2lite eval`" in run["notes"][0]
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


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "nowhere is not the folder of a run: it has no config.yaml"),
        (["a", "a", "a"], "a report is on one run or two; 3 were named"),
        (["a", "--dataset", "coco:x"], "--dataset coco:x is not among DATASETS.TEST of a"),
    ],
)
def test_mistakes_are_one_line(folder, words, message, capsys):
    make_run(folder, "a", GOOD)
    with pytest.raises(SystemExit):
        commands.main(["report", *words])
    assert message in capsys.readouterr().err.splitlines()[0]


def test_images_are_left_out_where_the_page_would_be_too_large(folder, monkeypatch, caplog):
    from d2lite.commands import report_data

    make_run(folder, "a", GOOD)
    whole = len(json.dumps(collect(["a"], None, 10)["images"]))
    monkeypatch.setattr(report_data, "LIMIT_MIB", 0.7 * whole / 2**20)
    assert len(collect(["a"], None, 10)["images"]) == 2
    assert "2 images are shown" in caplog.text
