"""`d2lite predict` on images, lists, videos and tiles, with a tiny model of random weights."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from d2lite import commands
from d2lite.checkpoint import DetectionCheckpointer
from d2lite.commands.detecting import thresholds_of
from d2lite.commands.sources import distinct_names, find_sources
from d2lite.data import MetadataCatalog
from d2lite.data.datasets import shapes
from d2lite.engine import DefaultPredictor, check_class_counts
from d2lite.engine.predictor import SlicedPredictor
from d2lite.modeling import build_model
from tests.engine.tiny import tiny_cfg
from tests.serving import served


def picture(number: int, size=(96, 128)) -> np.ndarray:
    drawn = shapes.draw_image(f"shapes://val/{number}")[:, :, ::-1]
    return cv2.resize(np.ascontiguousarray(drawn), size[::-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a Mask R-CNN."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny_cfg(folder, MODEL__MASK_ON=True, TEST__DETECTIONS_PER_IMAGE=6)
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    check_class_counts(cfg)
    torch.manual_seed(0)
    model = build_model(cfg)
    DetectionCheckpointer(model, str(folder)).save("model_final")
    return str(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two images of one name, and one that is none."""
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


def test_thresholds_by_name():
    metadata = MetadataCatalog.get("shapes_val")
    values = thresholds_of(metadata, 0.5, ["star=0.7"])
    assert values.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.7, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"no class 'stars'\. Did you mean 'star'"):
        thresholds_of(metadata, 0.5, ["stars=0.7"])


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


def test_one_tile_finds_what_the_predictor_finds(run):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    image = picture(3)
    expected = predictor(image)["instances"]
    got = SlicedPredictor(predictor, 200)(image)["instances"]
    # Sorted by score; NMS of tiles is stricter than none and keeps what is far apart.
    kept = {tuple(box) for box in got.pred_boxes.tensor.tolist()}
    assert kept and kept <= {tuple(box) for box in expected.pred_boxes.tensor.tolist()}
    for box, rle in zip(got.pred_boxes.tensor.tolist(), got.pred_masks, strict=True):
        index = expected.pred_boxes.tensor.tolist().index(box)
        assert (mask_util.decode(rle) == expected.pred_masks[index].numpy()).all()


def test_whole_image_is_one_more_window_unless_it_is_not_wanted(run, monkeypatch):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    given = []
    detect = predictor.predict_batch

    def look(images):
        given.extend(image.shape[:2] for image in images)
        return detect(images)

    monkeypatch.setattr(predictor, "predict_batch", look)
    SlicedPredictor(predictor, 96, overlap=0, batch=2)(picture(0, (96, 180)))
    assert given == [(96, 96), (96, 96), (96, 180)]
    given.clear()
    SlicedPredictor(predictor, 96, overlap=0, whole=False)(picture(0, (96, 180)))
    assert given == [(96, 96), (96, 96)]


def test_batches_find_what_single_images_find(run):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    images = [picture(number) for number in range(3)]
    for image, output in zip(images, predictor.predict_batch(images), strict=True):
        expected = predictor(image)["instances"]
        torch.testing.assert_close(
            output["instances"].pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-3, rtol=1e-3
        )


def test_sources_of_every_kind(folder):
    (folder / "in/list.txt").write_text("# photos\na/x.png\n\nin/b/x.png\n")
    (folder / "in/.hidden").mkdir()
    cv2.imwrite(str(folder / "in/.hidden/y.png"), picture(0))
    (folder / "in/film.mp4").write_bytes(b"")

    def paths(*words):
        return [(s.kind, s.path.replace("\\", "/")) for s in find_sources(words)]

    two = [("image", "in/a/x.png"), ("image", "in/b/x.png")]
    assert paths("in") == [two[0], two[1], ("video", "in/film.mp4")]
    assert paths("in/*/x.png", "in/a/x.png") == two
    assert paths("in/list.txt") == two
    assert paths("0", "rtsp://camera/1") == [("camera", "0"), ("video", "rtsp://camera/1")]
    assert paths("http://host/a.jpg?x=1", "shapes://val/3") == [
        ("image", "http://host/a.jpg?x=1"),
        ("image", "shapes://val/3"),
    ]


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


def test_names_are_distinct_without_their_endings():
    names = distinct_names(["a/x.jpg", "a/x.png", "b/X.jpg", "c/d.jpg"])
    assert names == ["x", "a_x", "b_X", "d"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["in/a/z.png"], "in/a/z.png: there is no such file or folder. Did you mean 'x.png'?"),
        (["in/a", "--save", "yolov5"], "--save has 'yolov5'; use one or more of drawn,coco,yolo"),
        (["in/a", "--batch", "0"], "--batch is 0; it has to be 1 or more"),
        (["in/a", "--class-threshold", "RBC"], "--class-threshold is 'RBC'; expected NAME=X"),
        (["in/a", "--output", "in/a"], "--output in/a has the images themselves"),
        (["in/empty"], "in/empty: there are no images or videos in this folder"),
        (["in/none.txt"], "in/none.txt: lists no files"),
        (["in/wrong.txt"], "in/wrong.txt, line 2: there is no file nowhere.jpg"),
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
