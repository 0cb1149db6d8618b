"""The tool draws every kind of dataset, from names, URIs and the training loader."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2lite.data.datasets import shapes

TOOL = Path(__file__).parents[2] / "tools" / "visualize_data.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("visualize_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "family", ["shapes", "shapes_rotated", "shapes_sem_seg", "shapes_panoptic"]
)
def test_annotations_are_drawn(tool, tmp_path, capsys, family):
    tool.main(["--dataset", f"{family}_val", "--num", "2", "--output-dir", str(tmp_path / "out")])
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == ["00000_0.jpg", "00001_1.jpg"]
    split = "rotated_val" if family == "shapes_rotated" else "val"
    plain = shapes.draw_image(f"shapes://{split}/0").astype(int)
    drawn = np.asarray(Image.open(files[0])).astype(int)
    assert drawn.shape == plain.shape
    assert np.abs(drawn - plain).max() > 60  # more than what JPEG changes
    assert f"Drew 2 images into {tmp_path / 'out'}" in capsys.readouterr().out


def test_training_samples_are_drawn_after_augmentation(tool, tmp_path):
    overrides = ["INPUT.MIN_SIZE_TRAIN", "(100,)", "MODEL.MASK_ON", "True"]
    overrides += ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2"]
    args = ["--source", "dataloader", "--dataset", "shapes_val", "--num", "3"]
    tool.main([*args, "--output-dir", str(tmp_path), *overrides])
    sizes = [Image.open(f).size for f in sorted(tmp_path.iterdir())]
    assert [min(size) for size in sizes] == [100, 100, 100]


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "no dataset given; use --dataset"),
        (["--dataset", "shapes_trian"], "'shapes_trian' is not registered. Did you mean"),
        (["--dataset", "coco:none.json"], "none.json: annotation file not found"),
        (["--dataset", "shapes_val", "--source", "dataloader", "--num", "0"], "give --num"),
    ],
)
def test_mistakes_are_one_clear_line(tool, tmp_path, capsys, args, message):
    with pytest.raises(SystemExit):
        tool.main(["--output-dir", str(tmp_path), *args])
    assert message in capsys.readouterr().err


def test_showing_without_a_display_is_one_clear_line(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit):
        tool.main(["--dataset", "shapes_val", "--show", "--output-dir", str(tmp_path)])
    assert "--show needs a display" in capsys.readouterr().err
