"""Every project runs like the stock models: it trains, resumes, is evaluated, and draws."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2lite.config import CfgNode, get_cfg
from d2lite.data.datasets.shapes_scene import SPLITS
from d2lite.engine import DefaultTrainer
from d2lite.projects import add_projects, available_projects

PROJECTS = Path(__file__).parents[1] / "projects"
CONFIGS = sorted(PROJECTS.glob("*/configs/shapes_*.yaml"))
SHORT = [
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "TEST.DRAW_IMAGES", 1),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2),
]
# One of them is among what an evaluation reports.
METRICS = {"AP50", "mIoU", "PQ"}


@pytest.fixture
def few_shapes(monkeypatch):
    """Few images in all datasets of shapes: to make all 2000 takes seconds."""
    for split, length in (("train", 8), ("val", 2)):
        monkeypatch.setitem(SPLITS, split, replace(SPLITS[split], length=length))


def config(path: Path, folder: Path) -> CfgNode:
    cfg = get_cfg()
    add_projects(cfg, str(path))
    cfg.merge_from_file(str(path))
    cfg.merge_from_list([*SHORT, "OUTPUT_DIR", str(folder)])
    if cfg.INPUT.CROP.ENABLED:
        cfg.INPUT.CROP.SIZE = [64, 64]
    return cfg


def trainer_of(project: Path) -> type[DefaultTrainer]:
    """The trainer of a project's own `train_net.py`, else the standard one."""
    program = project / "train_net.py"
    if not program.exists():
        return DefaultTrainer
    spec = importlib.util.spec_from_file_location(f"train_net_of_{project.name}", program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Trainer


def train(trainer_class: type[DefaultTrainer], cfg: CfgNode, resume: bool) -> tuple[dict, dict]:
    """The final weights and the metrics."""
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=resume)
    metrics = trainer.train()
    final = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    return final["model"], metrics


def test_every_project_has_a_config_to_train_on_shapes():
    small = {path.parents[1].name for path in CONFIGS}
    rest = {package.parent.name for package in available_projects().values()} - small
    assert rest == {"ExampleBackbone"}  # its own tests train it


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parents[1].name)
def test_resumed_run_ends_as_an_uninterrupted_one_and_draws(path: Path, tmp_path: Path, few_shapes):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer = trainer_of(path.parents[1])
    weights, metrics = train(trainer, config(path, whole), resume=False)
    assert METRICS & {name for task in metrics.values() for name in task}
    assert len(list((whole / "visualizations").glob("*.jpg"))) == 1

    parts.mkdir()
    shutil.copy(whole / "model_0000001.pth", parts)
    (parts / "last_checkpoint").write_text("model_0000001.pth")
    resumed, resumed_metrics = train(trainer, config(path, parts), resume=True)
    assert [name for name in weights if not torch.equal(weights[name], resumed[name])] == []
    # As text, in which nan equals nan.
    assert str(resumed_metrics) == str(metrics)
