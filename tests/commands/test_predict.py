"""`d2lite predict` on images, lists, videos and tiles, with a tiny model of random weights."""

import csv
import json

import cv2
import pytest
from pycocotools import mask as mask_util

from d2lite import commands
from tests.engine.serving import mask_rcnn_run, picture
from tests.serving import served


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mask_rcnn_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with two images of the same name."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/x.png", "b/x.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), picture(number))
    return tmp_path


def predict(run: str, *words: str) -> int:
    try:
        commands.main(["predict", *words, "--weights", run, "--device", "cpu"])
    except SystemExit as end:
        return end.code
    return 0


def test_all_formats_have_the_same_objects(folder, run, capsys):
    words = ["in", "--threshold", "0", "--save", "drawn,coco,yolo,csv", "--output", "out"]
    assert predict(run, *words) == 0
    out = folder / "out"
    assert {p.name for p in out.glob("*.png")} == {"x.png", "b_x.png"}
    content = json.loads((out / "predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["in/a/x.png", "in/b/x.png"]
    assert [c["name"] for c in content["categories"]][:2] == ["circle", "square"]
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    lines = [len((out / f"labels/{n}.txt").read_text().splitlines()) for n in ("x", "b_x")]
    assert len(rows) == len(content["annotations"]) == 12  # 6 of each image
    assert 0 < sum(lines) <= 12  # masks of random weights may be empty
    first = content["annotations"][0]
    assert mask_util.decode(first["segmentation"]).shape == (96, 128)
    x, y, w, h = first["bbox"]
    assert [float(rows[0][k]) for k in ("x0", "y0", "x1", "y1")] == pytest.approx(
        [x, y, x + w, y + h], abs=0.01
    )
    assert "2 images, 12 objects" in capsys.readouterr().out


def test_bad_image_is_one_line_and_the_others_are_done(folder, run, capsys):
    (folder / "in/a/bad.jpg").write_text("no image")
    assert predict(run, "in", "--threshold", "0", "--batch", "2") == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert "in/a/bad.jpg: not an image" in error[0]
    assert error[1] == "1 of 3 sources could not be read"
    assert len(list((folder / "runs/predict-1").glob("*.png"))) == 2


def test_thresholds_of_classes_hold(folder, run):
    words = ["in", "--threshold", "0.99", "--save", "csv", "--output", "out"]
    assert predict(run, *words, "--class-threshold", "circle=0,square=0") == 0
    rows = list(csv.DictReader((folder / "out/predictions.csv").open()))
    assert {row["class"] for row in rows} <= {"circle", "square"}


def test_video_keeps_its_frames(folder, run):
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (128, 96))
    for number in range(5):
        writer.write(picture(number))
    writer.release()
    words = ["--threshold", "0", "--save", "drawn,coco,yolo", "--output", "out", "--batch", "2"]
    assert predict(run, "film.avi", *words) == 0
    drawn = cv2.VideoCapture(str(folder / "out/film.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    content = json.loads((folder / "out/predictions.json").read_text())
    assert [image["frame"] for image in content["images"]] == [0, 1, 2, 3, 4]
    assert (folder / "out/labels/film_000004.txt").is_file()
    assert predict(run, "film.avi", *words[:-4], "--output", "few", "--max-frames", "3") == 0
    assert len(json.loads((folder / "few/predictions.json").read_text())["images"]) == 3


def test_tiles_of_a_large_image(folder, run):
    cv2.imwrite("large.png", picture(0, (200, 300)))
    words = ["--tile", "96", "--threshold", "0", "--save", "coco,drawn,yolo", "--output", "out"]
    assert predict(run, "large.png", *words, "MODEL.DEVICE", "cpu") == 0
    content = json.loads((folder / "out/predictions.json").read_text())
    assert max(row["bbox"][0] for row in content["annotations"]) > 96  # not only the first tile
    for row in content["annotations"]:
        assert row["segmentation"]["size"] == [200, 300]
    assert cv2.imread("out/large.png").shape == (200, 300, 3)


def test_tiles_of_a_video_are_drawn(folder, run):
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (128, 96))
    writer.write(picture(0))
    writer.release()
    assert predict(run, "film.avi", "--tile", "80", "--threshold", "0", "--output", "out") == 0
    assert cv2.VideoCapture("out/film.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_image_and_video_of_a_url(folder, run, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(folder / "cache"))
    writer = cv2.VideoWriter("in/film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (128, 96))
    writer.write(picture(0))
    writer.release()
    with served(folder / "in") as address:
        words = [f"{address}/a/x.png?size=1", f"{address}/film.avi", f"{address}/none.png"]
        assert predict(run, *words, "--threshold", "0", "--output", "out") == 1  # the last one
    assert cv2.imread("out/x.png").shape == (96, 128, 3)
    assert cv2.VideoCapture("out/film.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["in/a/z.png"], "in/a/z.png: file or folder not found. Did you mean 'x.png'?"),
        (["in/a", "--save", "yolov5"], "--save has 'yolov5'; use one or more of drawn,coco,yolo"),
        (["in/a", "--batch", "0"], "--batch is 0; it must be at least 1"),
        (["in/a", "--class-threshold", "RBC"], "--class-threshold is 'RBC'; expected NAME=X"),
        (["in/a", "--output", "in/a"], "--output in/a contains the input images"),
        (["in/empty"], "in/empty: there are no images or videos in this folder"),
        (["in/none.txt"], "in/none.txt: lists no files"),
        (["in/wrong.txt"], "in/wrong.txt, line 2: file not found: nowhere.jpg"),
        (["in/a", "--tile", "64", "--overlap", "1"], "expected a size of 1 or more"),
        (["in/a", "MODEL.DEVCE", "cpu"], "MODEL.DEVCE"),
    ],
)
def test_mistakes_are_one_line(folder, run, words, message, capsys):
    (folder / "in/empty").mkdir()
    (folder / "in/none.txt").write_text("\n")
    (folder / "in/wrong.txt").write_text("a/x.png\nnowhere.jpg\n")
    assert predict(run, *words) == 1
    assert message in capsys.readouterr().err.splitlines()[0]
    assert not list(folder.glob("runs/*"))


def test_unreadable_video_is_reported(folder, run, capsys):
    (folder / "film.mp4").write_text("no video")
    assert predict(run, "film.mp4", "in/a/x.png") == 1
    assert "film.mp4: OpenCV cannot read it as a video" in capsys.readouterr().err
