"""`d2lite export` writes a graph that finds what the model finds."""

import pytest
import torch

from d2lite import commands
from d2lite.checkpoint import DetectionCheckpointer
from d2lite.engine import DefaultPredictor, check_class_counts
from d2lite.export.program import OLDEST_TORCH
from d2lite.modeling import build_model
from d2lite.utils.env import TORCH_VERSION
from tests.engine.tiny import tiny_cfg


@pytest.mark.skipif(TORCH_VERSION < OLDEST_TORCH, reason="torch exports no detectors")
def test_exported_program_gives_the_same_boxes(tmp_path, capsys):
    cfg = tiny_cfg(tmp_path, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    check_class_counts(cfg)
    torch.manual_seed(0)
    DetectionCheckpointer(build_model(cfg), str(tmp_path)).save("model_final")
    words = ["--weights", str(tmp_path), "--format", "pt2", "--size", "64", "96"]
    commands.main(["export", *words, "MODEL.DEVICE", "cpu"])
    assert "takes an image (3, 64, 96)" in capsys.readouterr().out
    program = torch.export.load(str(tmp_path / "model.pt2"))
    image = torch.rand(3, 64, 96) * 255
    predictor = DefaultPredictor(str(tmp_path / "model_final.pth"))
    with torch.no_grad():
        boxes = program.module()(image)[0]
        (expected,) = predictor.model([{"image": image}])
    torch.testing.assert_close(boxes, expected["instances"].pred_boxes.tensor, atol=1e-3, rtol=1e-3)
