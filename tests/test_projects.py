"""Every project runs like the stock models: it trains, resumes, is evaluated, and draws."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2lite.config import CfgNode, get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.shapes_scene import SPLITS
from d2lite.engine import DefaultTrainer
from d2lite.projects import add_projects, available_projects

PROJECTS = Path(__file__).parents[1] / "projects"
CONFIGS = sorted(PROJECTS.glob("*/configs/shapes_*.yaml"))
NUM_IMAGES = 2
SHORT = [
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "DATASETS.TEST", ("few_shapes",)),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "TEST.DRAW_IMAGES", 1),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2),
]


@pytest.fixture
def few_shapes(monkeypatch):
    """Two images of shapes_val for testing; and few for training: all 2000 take seconds to make."""
    monkeypatch.setitem(SPLITS, "train", replace(SPLITS["train"], length=8))
    images = DatasetCatalog.get("shapes_val")[:NUM_IMAGES]
    DatasetCatalog.register("few_shapes", lambda: images)
    metadata = MetadataCatalog.get("shapes_val").as_dict()
    MetadataCatalog.get("few_shapes").set(**{**metadata, "name": "few_shapes"})
    yield
    DatasetCatalog.remove("few_shapes")
    MetadataCatalog.remove("few_shapes")


def config(path: Path, folder: Path) -> CfgNode:
    cfg = get_cfg()
    add_projects(cfg, str(path))
    cfg.merge_from_file(str(path))
    cfg.merge_from_list([*SHORT, "OUTPUT_DIR", str(folder)])
    return cfg


def train(cfg: CfgNode, resume: bool) -> tuple[dict, dict]:
    """The final weights and the figures."""
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    figures = trainer.train()
    final = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    return final["model"], figures


def test_every_project_has_a_config_to_train_on_shapes():
    small = {path.parents[1].name for path in CONFIGS}
    rest = {package.parent.name for package in available_projects().values()} - small
    assert rest == {"ExampleBackbone"}  # its own tests train it


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parents[1].name)
def test_resumed_run_ends_as_an_uninterrupted_one_and_draws(path: Path, tmp_path: Path, few_shapes):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    weights, figures = train(config(path, whole), resume=False)
    assert "AP50" in figures["bbox"]
    assert len(list((whole / "visualizations").glob("*.jpg"))) == 1

    parts.mkdir()
    shutil.copy(whole / "model_0000001.pth", parts)
    (parts / "last_checkpoint").write_text("model_0000001.pth")
    resumed, resumed_figures = train(config(path, parts), resume=True)
    assert [name for name in weights if not torch.equal(weights[name], resumed[name])] == []
    # As text, in which nan equals nan.
    assert str(resumed_figures) == str(figures)
