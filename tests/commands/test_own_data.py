"""Training on a folder of own data: found by looking, split, resumed, known to the checkpoint."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from d2lite import commands
from d2lite.checkpoint import read_about
from d2lite.commands import own_data
from d2lite.config import get_cfg
from d2lite.config.files import find_config
from d2lite.data import DatasetCatalog, MetadataCatalog
from tests.commands.tiny import write_config
from tests.data.layouts.tiny import draw


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a table of boxes for twelve images, and a config."""
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "boxes.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "class", "xmin", "ymin", "xmax", "ymax"])
        for number in range(12):
            draw(tmp_path / "photos" / f"{number}.png", number)
            name = ("zebra", "ant")[number % 2]
            table.writerow([f"{number}.png", name, 8, 8, 28 + number, 32])
    write_config(tmp_path)
    yield tmp_path
    forget()


def forget():
    """Clear the catalogs, as in a new process."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in [name for name in catalog.list() if name.startswith("folder:")]:
            catalog.remove(name)


def train(*words):
    forget()
    commands.main(["train", "--config", "tiny.yaml", *words])


def weights(run):
    return torch.load(Path("runs", run, "model_final.pth"), weights_only=True)["model"]


def test_interrupted_and_resumed_is_the_same_run(folder, capsys):
    train("--data", ".", "--name", "a")
    assert "CSV: 10 train, 2 val images" in capsys.readouterr().out
    assert (folder / "runs/a-1/split.json").is_file()
    # As if it had been killed after its first checkpoint.
    shutil.copytree(folder / "runs/a-1", folder / "runs/b-1")
    (folder / "runs/b-1/last_checkpoint").write_text("model_0000001.pth", encoding="utf-8")
    for name in ("model_0000003.pth", "model_final.pth"):
        (folder / "runs/b-1" / name).unlink()
    forget()
    commands.main(["train", "--resume", "--name", "b"])
    whole, resumed = weights("a-1"), weights("b-1")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_checkpoint_knows_classes_and_data(folder):
    train("--data", "boxes.csv")
    about = read_about("runs/train-1/model_final.pth")
    assert about["metadata"]["thing_classes"] == ["ant", "zebra"]
    (name,) = about["config"]["DATASETS"]["TRAIN"]
    forget()
    assert len(DatasetCatalog.get(name)) == 10
    commands.main(["eval", "--weights", "runs/train-1"])


def test_other_data_are_told_on_resuming(folder, caplog):
    train("--data", ".", "--name", "a", "SOLVER.MAX_ITER", "2")
    text = (folder / "boxes.csv").read_text(encoding="utf-8")
    (folder / "boxes.csv").write_text(text.replace(",32", ",33"), encoding="utf-8")
    forget()
    commands.main(["train", "--resume", "--name", "a"])
    assert "dataset" in caplog.text and "other" in caplog.text


def test_a_folder_without_labels_is_one_line(folder, capsys):
    (folder / "boxes.csv").unlink()
    with pytest.raises(SystemExit) as end:
        commands.main(["train", "--data", "photos"])
    assert end.value.code == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert "no known layout of annotations. Looked for" in first and "Found: 12 x .png" in first


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
