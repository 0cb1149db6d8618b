"""`d2lite train`, `eval`, `plot` and `info` on drawn pictures."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2lite import commands
from d2lite.commands import own_data
from d2lite.config import get_cfg
from d2lite.data.datasets import shapes
from d2lite.data.datasets.coco_export import convert_to_coco_dict
from d2lite.engine.from_checkpoint import weights_of_run
from d2lite.engine.run_folder import last_run_folder, new_run_folder
from tests.engine.tiny import overrides


def settings(**changes) -> list[str]:
    tiny = {"SOLVER__MAX_ITER": 4, "SOLVER__STEPS": (3,), "SOLVER__CHECKPOINT_PERIOD": 2}
    return [str(word) for word in overrides(**{**tiny, **changes})]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder):
    """The tiny settings as a config file."""
    cfg = get_cfg()
    cfg.merge_from_list(settings())
    (folder / "tiny.yaml").write_text(cfg.dump())
    return "tiny.yaml"


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

    commands.main(["plot", "runs/a-1", "runs/a-2", "--output", "both.png"])
    assert (folder / "both.png").stat().st_size > 5000
    capsys.readouterr()
    commands.main(["plot", "runs/a-2", "--terminal"])
    assert "a-2: total_loss" in capsys.readouterr().out
    commands.main(["info", "--weights", "runs/a-2"])
    assert "6 thing_classes: circle, square" in capsys.readouterr().out


def test_epochs_follow_the_images_and_the_batch(folder, config):
    # shapes_train has 2000 images: 2000 * 0.004 / 4 = 2 iterations.
    commands.main(["train", "--config", config, "--epochs", "0.004", "--batch", "4"])
    text = (folder / "runs/train-1/config.yaml").read_text()
    assert "MAX_ITER: 2\n" in text
    assert "IMS_PER_BATCH: 4\n" in text
    assert "BASE_LR: 0.004\n" in text  # twice the batch, twice the rate


def test_eval_takes_a_run(folder, config, capsys):
    commands.main(["train", "--config", config])
    commands.main(["eval", "--weights", "runs/train-1", "DATASETS.TEST", "('shapes_val',)"])
    assert (folder / "runs/eval-1/inference").is_dir()


@pytest.mark.parametrize(
    "words, message",
    [
        (["train"], "nothing to train on: give --data PATH or --config NAME"),
        (["train", "--config", "quick_strat"], "Did you mean 'quick_start'"),
        (["train", "--resume", "--name", "b"], "there is no run runs/b-N to resume"),
        (["train", "--name", "a/b", "--config", "quick_start"], "--name is 'a/b'; expected a name"),
        (["train", "--config", "fcos_R_50_FPN_1x", "--lr", "1"], "--lr is for yaml configs"),
        (["train", "--data", "none"], "none: there is no such f"),
        (["train", "--config", "quick_start", "--weights", "coco"], "--weights coco: No weights"),
        (["train", "--resume", "OUTPUT_DIR", "none"], "none/config.yaml not found"),
        (["eval"], "give the weights to evaluate: --weights RUN"),
        (["plot", "nowhere"], "nowhere not found"),
        (["configs", "xyz"], "no config of the zoo has xyz in its name"),
    ],
)
def test_wrong_words_are_one_line(words, message, folder, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(words)
    assert end.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-2]
    assert not list(folder.glob("runs/*"))


def test_numbers_of_runs(tmp_path):
    base = str(tmp_path)
    assert Path(new_run_folder("x", base)).name == "x-1"
    (tmp_path / "x-9").mkdir()
    (tmp_path / "x-y-20").mkdir()
    assert Path(new_run_folder("x", base)).name == "x-10"
    assert Path(last_run_folder("x", base)).name == "x-10"


def test_best_weights_of_a_run(tmp_path):
    assert weights_of_run("model.pth") == "model.pth"
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        weights_of_run(str(tmp_path))
    for name in ("model_0000001.pth", "model_final.pth", "model_best.pth"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / "last_checkpoint").write_text(name)
        assert weights_of_run(str(tmp_path)) == str(tmp_path / name)


def test_schedule_of_a_chosen_config_sees_each_image_often_enough():
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 4
    choice = own_data.Choice("x", "y", {}, epochs=12, iterations=600)
    few = own_data.schedule_for(cfg, 40, None, choice)
    assert few["SOLVER.MAX_ITER"] == 600
    many = own_data.schedule_for(cfg, 4000, None, choice)
    assert many["SOLVER.MAX_ITER"] == 12000
    assert many["TEST.EVAL_PERIOD"] == 3000


def test_schedule_of_a_given_config_keeps_its_form():
    cfg = get_cfg()
    cfg.merge_from_list(
        ["SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600, 800), "SOLVER.IMS_PER_BATCH", 10]
    )
    assert own_data.schedule_for(cfg, 100, 10, None) == {
        "SOLVER.MAX_ITER": 100,
        "SOLVER.STEPS": (60, 80),
        "SOLVER.WARMUP_ITERS": 10,
        "SOLVER.CHECKPOINT_PERIOD": 100,
    }


@pytest.mark.parametrize("kinds", [{"boxes"}, {"boxes", "masks"}, {"boxes", "keypoints"}])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_choice_is_a_config(kinds, device, monkeypatch):
    from d2lite.config.files import find_config

    monkeypatch.setattr(own_data, "is_available", lambda url: False)
    choice = own_data.choose_model(kinds, device, None)
    cfg = get_cfg()
    cfg.merge_from_file(find_config(choice.config))
    cfg.merge_from_list([word for pair in choice.settings.items() for word in pair])
    assert ("masks" in kinds) == cfg.MODEL.MASK_ON
    assert ("keypoints" in kinds) == cfg.MODEL.KEYPOINT_ON
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0  # from scratch
    assert cfg.MODEL.RESNETS.NORM != "FrozenBN"


def test_released_weights_are_chosen_where_they_can_be_had(monkeypatch):
    monkeypatch.setattr(own_data, "is_available", lambda url: True)
    choice = own_data.choose_model({"boxes", "masks"}, "cuda", None)
    assert choice.config == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert choice.settings["MODEL.WEIGHTS"].endswith("model_final_f10217.pkl")


def test_metrics_of_a_run_that_is_being_written(tmp_path):
    from d2lite.utils.run_curves import read_curves

    rows = [{"iteration": i, "total_loss": 1.0 / (i + 1), "lr": 0.1} for i in range(3)]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metrics.json").write_text(f'{text}\n{{"iteration": 3, "tot')
    curves = read_curves(str(tmp_path))
    assert curves["total_loss"][0].tolist() == [0, 1, 2]
    (tmp_path / "metrics.json").write_text(f"nonsense\n{text}\n")
    with pytest.raises(ValueError, match=r"metrics\.json, line 1: expected a JSON object"):
        read_curves(str(tmp_path))


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
