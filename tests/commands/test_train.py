"""`d2lite train` on drawn pictures, and mistakes on its command line."""

import json
import re

import cv2
import numpy as np
import pytest

from d2lite import commands
from d2lite.data.datasets import shapes
from d2lite.data.datasets.coco_export import convert_to_coco_dict
from tests.commands.tiny import write_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder):
    return write_config(folder)


def test_runs_are_numbered_resumed_and_drawn(folder, config, capsys):
    commands.main(["train", "--config", config, "--name", "a"])
    commands.main(["train", "--config", config, "--name", "a", "--lr", "0.005", "SEED", "5"])
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["a-1", "a-2"]
    assert (folder / "runs/a-1/results.png").is_file()
    assert re.search(r"SOLVER.BASE_LR +0.005 +--lr", capsys.readouterr().out)
    commands.main(["train", "--resume", "--name", "a", "SOLVER.MAX_ITER", "6"])
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["a-1", "a-2"]
    assert "MAX_ITER: 6" in (folder / "runs/a-2/config.yaml").read_text()
    assert "BASE_LR: 0.005" in (folder / "runs/a-2/config.yaml").read_text()


@pytest.mark.parametrize(
    "words, message",
    [
        (["train"], "nothing to train on: give --data PATH or --config NAME"),
        (["train", "--config", "quick_strat"], "Did you mean 'quick_start'"),
        (["train", "--resume", "--name", "b"], "there is no run runs/b-N to resume"),
        (["train", "--name", "a/b", "--config", "quick_start"], "--name is 'a/b'; expected a name"),
        (["train", "--config", "fcos_R_50_FPN_1x", "--lr", "1"], "--lr is for yaml configs"),
        (["train", "--data", "none"], "none: folder or file not f"),
        (["train", "--config", "quick_start", "--weights", "coco"], "--weights coco: No weights"),
        (["train", "--resume", "OUTPUT_DIR", "none"], "none/config.yaml not found"),
        (["eval"], "give the weights to evaluate: --weights RUN"),
        (["plot", "nowhere"], "nowhere not found"),
    ],
)
def test_wrong_words_are_one_line(words, message, folder, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(words)
    assert end.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-2]
    assert not list(folder.glob("runs/*"))


@pytest.fixture
def photos(folder):
    """Eight drawn photographs with masks, in COCO's layout."""
    content = convert_to_coco_dict("shapes_val")
    images = content["images"][:8]
    (folder / "photos").mkdir()
    for row in images:
        picture = shapes.draw_image(row["file_name"])[:, :, ::-1]
        row["file_name"] = f"{row['id']}.png"
        cv2.imwrite(str(folder / "photos" / row["file_name"]), np.ascontiguousarray(picture))
    ids = {row["id"] for row in images}
    drop = ("keypoints", "num_keypoints")
    annotations = [
        {key: value for key, value in row.items() if key not in drop}
        for row in content["annotations"]
        if row["image_id"] in ids
    ]
    content = {**content, "images": images, "annotations": annotations}
    (folder / "photos/labels.json").write_text(json.dumps(content))
    return "photos"


def test_own_photographs_are_trained_on_resumed_evaluated_and_detected_on(photos, folder, capsys):
    words = ["--data", photos, "--imgsz", "64", "--epochs", "1", "--batch", "2"]
    tiny = ["MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.STEM_OUT_CHANNELS", "16"]
    tiny += ["DATALOADER.NUM_WORKERS", "0", "TEST.DRAW_IMAGES", "0", "MODEL.DEVICE", "cpu"]
    commands.main(["train", *words, *tiny])
    out = capsys.readouterr().out
    assert "config: Base-R18-FPN-small (there is no GPU" in out
    assert re.search(r"MODEL.MASK_ON +True", out)
    assert re.search(r"SOLVER.MAX_ITER +3 +1 epochs of 6 images, 2 at a time", out)
    run = folder / "runs/train-1"
    assert json.loads((run / "split.json").read_text())["val_share"] == 0.2
    assert (run / "model_best.pth").is_file()

    commands.main(["train", "--resume", "SOLVER.MAX_ITER", "4"])
    assert "MAX_ITER: 4" in (run / "config.yaml").read_text()
    commands.main(["eval", "--weights", str(run), "--data", photos, "--split", "all"])
    assert (folder / "runs/eval-1/inference/coco_instances_results.json").is_file()
    commands.main(["predict", photos, "--weights", str(run), "--threshold", "0"])
    assert len(list((folder / "runs/predict-1").glob("*.png"))) == 8
    commands.main(["report", str(run)])
    assert (run / "report.html").stat().st_size > 30_000
