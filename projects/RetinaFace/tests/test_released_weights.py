"""The released weights load, and find what their own code finds (tests/data/expected.npz)."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.config import get_cfg
from d2lite.data.detection_utils import read_image
from d2lite.modeling import build_model
from d2lite.projects import add_projects
from d2lite.projects.retinaface import released_name

PROJECT = Path(__file__).parents[1]
CONFIG = str(PROJECT / "configs/retinaface_mobilenet0.25.yaml")
DATA = PROJECT / "tests/data"
WEIGHTS = str(DATA / "mobilenet0.25_Final.pth")
PHOTO = str(DATA / "astronaut.png")


def make_model(*changes):
    cfg = get_cfg()
    add_projects(cfg, CONFIG)
    cfg.merge_from_file(CONFIG)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *changes])
    return build_model(cfg).eval()


@pytest.fixture(scope="module")
def model():
    made = make_model()
    DetectionCheckpointer(made).load(WEIGHTS)
    return made


@pytest.fixture(scope="module")
def expected():
    with np.load(DATA / "expected.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope="module")
def photo():
    return {"image": torch.from_numpy(read_image(PHOTO, "BGR").transpose(2, 0, 1).copy())}


def test_every_released_name_has_one_of_ours(model):
    released = read_checkpoint_file(WEIGHTS)
    ours = [released_name(name) for name in released]
    assert len(set(ours)) == len(ours)
    assert set(ours) == set(model.state_dict())


@torch.no_grad()
def test_raw_outputs_equal_those_of_the_original_code(model, expected, photo):
    images = model.preprocess_image([photo])
    by_name = model.backbone(images.tensor)
    features = [by_name[name] for name in model.head_in_features]
    logits, deltas, landmarks = (x[0] for x in model.flatten_predictions(model.head(features)))
    assert len(logits) == int(expected["num_anchors"])
    rows = expected["rows"]
    for name, got in (
        ("raw_scores", logits.softmax(dim=1)),
        ("raw_deltas", deltas),
        ("raw_landmarks", landmarks),
    ):
        torch.testing.assert_close(got[rows], expected[name], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_face_and_landmarks_equal_those_of_the_original_code(model, expected, photo):
    found = model([photo])[0]["instances"]
    found = found[found.scores > 0.5]
    torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], rtol=0, atol=0.1)
    torch.testing.assert_close(found.scores, expected["scores"], rtol=1e-3, atol=0)
    points = found.pred_keypoints[..., :2]
    torch.testing.assert_close(points, expected["landmarks"], rtol=0, atol=0.1)
    assert found.pred_classes.tolist() == [0] * len(expected["boxes"])


@torch.no_grad()
def test_an_image_of_odd_size_beside_a_larger_one_gives_its_own_face(model, expected, photo):
    cut = {"image": photo["image"][:, :301, :333]}
    found = model([cut, photo])[0]["instances"]
    found = found[found.scores > 0.5]
    assert found.image_size == (301, 333)
    torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], rtol=0, atol=3.0)


def test_heads_for_other_classes_are_left_and_reported(caplog):
    other = make_model("MODEL.RETINAFACE.NUM_CLASSES", "3")
    untouched = other.head.cls_score[0].weight.clone()
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(other).load(WEIGHTS)
    assert torch.equal(other.head.cls_score[0].weight, untouched)
    released = read_checkpoint_file(WEIGHTS)
    assert torch.equal(other.head.bbox_pred[0].weight, released["BboxHead.0.conv1x1.weight"])
    assert "unexpected   ClassHead" in caplog.text


def test_own_checkpoints_load_as_they_are(model, tmp_path):
    DetectionCheckpointer(model, str(tmp_path)).save("own")
    again = make_model()
    DetectionCheckpointer(again).load(str(tmp_path / "own.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_command_draws_the_face(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("detect", PROJECT / "detect.py")
    detect = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(detect)
    detect.main(
        ["--config-file", CONFIG, "--input", PHOTO, "--output-dir", str(tmp_path)]
        + ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", WEIGHTS]
    )
    printed = capsys.readouterr().out
    assert "1 faces" in printed and "box 179.4 54.5 270.5 177.7" in printed
    assert "left_eye 202.1 101.2" in printed
    drawn = np.asarray(Image.open(tmp_path / "astronaut_faces.jpg")).astype(int)
    plain = np.asarray(Image.open(PHOTO).convert("RGB")).astype(int)
    changed = np.abs(drawn - plain).max(axis=2) > 100  # more than what JPEG changes
    rows, columns = np.nonzero(changed)
    assert rows.size > 100
    # The box, its line, and the label above it.
    assert columns.min() >= 175 and columns.max() <= 275 and rows.min() >= 30 and rows.max() <= 183
