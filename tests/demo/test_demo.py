"""The demo draws images and videos, loses none of them, and says what is wrong."""

import importlib.util
import queue
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.data import MetadataCatalog
from d2lite.data.datasets import shapes
from d2lite.modeling import build_model

DEMO = Path(__file__).parents[2] / "demo"
# A few narrow layers with random weights: what it finds does not matter here.
CONFIG = """
MODEL:
  DEVICE: cpu
  WEIGHTS: {weights}
  META_ARCHITECTURE: RetinaNet
  BACKBONE: {{NAME: build_retinanet_resnet_fpn_backbone}}
  RESNETS:
    DEPTH: 18
    RES2_OUT_CHANNELS: 8
    STEM_OUT_CHANNELS: 8
    OUT_FEATURES: [res3, res4, res5]
  FPN: {{IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 8}}
  RETINANET: {{NUM_CLASSES: 6, NUM_CONVS: 1, PRIOR_PROB: 0.5}}
DATASETS: {{TEST: [shapes_val]}}
INPUT: {{MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}}
TEST: {{DETECTIONS_PER_IMAGE: 5}}
VERSION: 2
"""


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, DEMO / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # worker processes find functions by the name of their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo():
    sys.path.insert(0, str(DEMO))  # as for a program that is started there
    yield load("demo")
    sys.path.remove(str(DEMO))
    for name in ("demo", "predictor"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(weights='""'))
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "weights.pth")
    path.write_text(CONFIG.format(weights=folder / "weights.pth"))
    return str(path)


def frames(count: int) -> list[np.ndarray]:
    pictures = [shapes.draw_image(f"shapes://val/{i}")[:96, :128, ::-1] for i in range(count)]
    return [np.ascontiguousarray(picture) for picture in pictures]


@pytest.fixture
def images(tmp_path):
    """Two images with the same name in two directories."""
    paths = [tmp_path / folder / "picture.png" for folder in ("a", "b")]
    for path, picture in zip(paths, frames(2), strict=True):
        path.parent.mkdir()
        cv2.imwrite(str(path), picture)
    return paths


@pytest.fixture
def video(tmp_path):
    path = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (128, 96))
    for frame in frames(4):
        writer.write(frame)
    writer.release()
    return path


def test_images_of_one_name_are_both_drawn(demo, config, images, tmp_path):
    arguments = ["--config-file", config, "--confidence-threshold", "0.0"]
    pattern = str(tmp_path / "*" / "picture.png")
    demo.main([*arguments, "--input", pattern, "--output", str(tmp_path / "drawn")])
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["b_picture.png", "picture.png"]
    for path, original in zip(reversed(drawn), images, strict=True):
        before, after = cv2.imread(str(original)), cv2.imread(str(path))
        assert after.shape == before.shape
        assert (after != before).any()


def test_one_image_goes_to_the_named_file(demo, config, images, tmp_path):
    target = tmp_path / "result.jpg"
    demo.main(["--config-file", config, "--input", str(images[0]), "--output", str(target)])
    assert cv2.imread(str(target)).shape == (96, 128, 3)


def test_checkpoint_with_its_config_is_enough(demo, config, images, tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(config)
    model = build_model(cfg)
    DetectionCheckpointer(model, str(tmp_path)).save("whole")
    arguments = ["--input", str(images[0]), "--output", str(tmp_path / "drawn.png")]
    demo.main([*arguments, "--opts", "MODEL.WEIGHTS", str(tmp_path / "whole.pth")])
    assert (tmp_path / "drawn.png").exists()


def test_nothing_below_the_confidence_is_drawn(demo, config, images, tmp_path):
    target = tmp_path / "result.png"
    arguments = ["--config-file", config, "--confidence-threshold", "0.99"]
    demo.main([*arguments, "--input", str(images[0]), "--output", str(target)])
    assert (cv2.imread(str(target)) == cv2.imread(str(images[0]))).all()


def read_video(path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    found = []
    while True:
        success, frame = video.read()
        if not success:
            return found
        found.append(frame)


def test_video_is_drawn_frame_by_frame(demo, config, video, tmp_path):
    target = tmp_path / "drawn.mp4"
    demo.main(["--config-file", config, "--video-input", video, "--output", str(target)])
    drawn = read_video(target)
    assert [frame.shape for frame in drawn] == [(96, 128, 3)] * 4


class Threads:
    """In place of a multiprocessing context: the same logic in a moment."""

    Queue = queue.Queue

    class Process(threading.Thread):
        terminate = join = lambda self: None


@pytest.mark.parametrize(
    "processes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["threads", "processes"]
)
def test_parallel_prediction_gives_the_same_frames(demo, config, video, monkeypatch, processes):
    if not processes:
        monkeypatch.setattr(sys.modules["predictor"].multiprocessing, "get_context", Threads)
        monkeypatch.setattr(Threads, "__init__", lambda self, method: None)
    cfg = demo.setup_cfg(demo.get_parser().parse_args(["--config-file", config]))
    serial = list(demo.VisualizationDemo(cfg).run_on_video(cv2.VideoCapture(video)))
    parallel = demo.VisualizationDemo(cfg, parallel=True)
    try:
        drawn = list(parallel.run_on_video(cv2.VideoCapture(video)))
        assert len(parallel.predictor) == 0
        assert all((a == b).all() for a, b in zip(serial, drawn, strict=True))
        with pytest.raises(RuntimeError, match="expected an image"):
            parallel.predictor(np.zeros((3, 3), np.uint8))
        with pytest.raises(RuntimeError, match="has ended"):
            parallel.predictor(frames(1)[0])
    finally:
        parallel.predictor.shutdown()


@pytest.mark.parametrize(
    "predictions, changed",
    [
        ({"sem_seg": torch.eye(3)[:, :, None].repeat_interleave(32, 1).expand(3, 96, 128)}, True),
        ({"panoptic_seg": (torch.zeros(96, 128, dtype=torch.int64), [])}, False),
        (
            {
                "panoptic_seg": (
                    torch.ones(96, 128, dtype=torch.int64),
                    [{"id": 1, "category_id": 2, "isthing": False, "area": 96 * 128}],
                )
            },
            True,
        ),
    ],
    ids=["classes", "no segments", "segments"],
)
def test_segmentations_are_drawn_on_images_and_videos(
    demo, predictions, changed, video, monkeypatch
):
    stub = SimpleNamespace(metadata=MetadataCatalog.get("shapes_panoptic_val"))
    monkeypatch.setattr(sys.modules["predictor"], "DefaultPredictor", lambda cfg: stub)
    drawing = demo.VisualizationDemo(get_cfg())
    drawing.predictor = lambda image: predictions
    image = frames(1)[0]
    got, picture = drawing.run_on_image(image)
    assert got is predictions
    assert (picture.get_image()[:, :, ::-1] != image).any() == changed
    assert len(list(drawing.run_on_video(cv2.VideoCapture(video)))) == 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "nothing to detect on; use --input"),
        (["--input", "none.jpg", "--output", "out"], "--input none.jpg: file not found"),
        (["--input", "{a}", "--output", "out"], "is a directory; name its images, as '{a}/*.jpg'"),
        (["--input", "{a}/picture.png"], "there is no display"),
        (["--input", "{a}/picture.png", "--output", "{a}"], "would replace the image"),
        (["--input", "{a}/*", "{b}/*", "--output", "{a}.png"], "one file for 2 images"),
        (["--video-input", "none.mp4", "--output", "x.mp4"], "none.mp4: file not found"),
        (["--video-input", "{a}/picture.txt", "--output", "x.mp4"], "cannot read it as a video"),
        (["--video-input", "{film}", "--output", "{film}"], "film.avi already exists"),
        (["--webcam", "--output", "x.mp4"], "leave --output out"),
        (["--webcam"], "there is no display"),
    ],
)
def test_mistakes_are_one_clear_line(
    demo, config, images, video, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    places = {"a": images[0].parent, "b": images[1].parent, "film": video}
    if "picture.txt" in str(arguments):
        (images[0].parent / "picture.txt").write_text("no video")
    with pytest.raises(SystemExit):
        demo.main(["--config-file", config, *(x.format(**places) for x in arguments)])
    assert message.format(**places) in capsys.readouterr().err


def test_a_window_needs_an_opencv_that_has_them(demo, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(demo.cv2, "getBuildInformation", lambda: "  GUI:      NONE\n")
    with pytest.raises(ValueError, match="pip install opencv-python"):
        demo.check_window()
    monkeypatch.setattr(demo.cv2, "getBuildInformation", lambda: "  GUI:      QT5\n")
    demo.check_window()


def test_names_stay_distinct_whatever_the_directories(demo, tmp_path):
    inputs = [f"{x}/a/Picture.jpg" for x in "1234"] + ["b/a_picture.jpg", "b/film.heic"]
    names = [Path(path).name for path in demo.output_paths(inputs, str(tmp_path))]
    assert names == [
        "Picture.jpg",
        "a_Picture.jpg",
        "Picture_1.jpg",
        "Picture_2.jpg",
        "b_a_picture.jpg",
        "film.jpg",  # OpenCV writes no .heic
    ]
