import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from d2lite.engine import HookBase, lazy_program as tool
from d2lite.engine.replay import read_step
from tests.tools.test_replay_step import tool as replay_tool

ROOT = Path(__file__).parents[2]
# A Mask R-CNN small enough for seconds, on drawn pictures.
TINY = f"""
from d2lite.config import LazyConfig

base = LazyConfig.load("{ROOT}/configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
model, dataloader, optimizer, lr_multiplier, train = (
    base.model, base.dataloader, base.optimizer, base.lr_multiplier, base.train
)
del base

body = model.backbone.bottom_up
body.stem.norm = "BN"
body.stages.pop("stride_in_1x1")
body.stages.update(depth=18, norm="BN")
body.freeze_at = 0
del body
model.backbone.out_channels = 8
model.proposal_generator.head.in_channels = 8
model.proposal_generator.post_nms_topk = (20, 20)
heads = model.roi_heads
heads.num_classes = 6
heads.batch_size_per_image = 16
heads.box_head.input_shape.channels = heads.mask_head.input_shape.channels = 8
heads.box_head.fc_dims = [8]
heads.box_predictor.input_shape.channels = 8
heads.mask_head.conv_dims = [8]
del heads

dataloader.train.dataset.names = "shapes_train"
dataloader.test.dataset.names = "shapes_val"
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = dataloader.test.num_workers = 0
for part in (dataloader.train, dataloader.test):
    part.mapper.augmentations[0].update(short_edge_length=(64, 64), max_size=96)
del part

train.update(init_checkpoint="", device="cpu", seed=7, max_iter=4, eval_period=0, log_period=1)
train.checkpointer.period = 2
"""


@pytest.fixture
def arguments(tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text(TINY)

    def make(folder, *opts, resume=False, eval_only=False):
        opts = [f"train.output_dir={tmp_path / folder}", "~dataloader.evaluator", *opts]
        return Namespace(config_file=str(config), opts=opts, resume=resume, eval_only=eval_only)

    return make


def weights(folder):
    return torch.load(folder / "model_final.pth")["model"]


class Stop(Exception):
    pass


class StopAt(HookBase):
    """Ends a run like a crash, after the checkpoint of iteration 1."""

    def after_step(self):
        if self.trainer.iter == 2:
            raise Stop


def test_resumed_run_ends_with_the_same_weights(arguments, tmp_path, monkeypatch):
    tool.main(arguments("whole"))
    with monkeypatch.context() as patch:
        build_hooks = tool.build_hooks
        patch.setattr(tool, "build_hooks", lambda *args: [*build_hooks(*args), StopAt()])
        with pytest.raises(Stop):
            tool.main(arguments("parts"))
    assert (tmp_path / "parts" / "last_checkpoint").read_text() == "model_0000001.pth"
    tool.main(arguments("parts", resume=True))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_run_leaves_figures_and_the_schedule_moves(arguments, tmp_path):
    tool.main(arguments("run", "train.max_iter=2", "optimizer.lr=0.5"))
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["iteration"] for r in records[:2]] == [0, 1]
    assert {"loss_mask", "loss_rpn_cls", "total_loss"} <= set(records[0])
    # The warm-up starts with a thousandth and climbs over the first 1000 / 90000 of the run.
    assert records[0]["lr"] == pytest.approx(0.0005)
    assert records[1]["lr"] == pytest.approx(0.5)


def test_misspelled_override_ends_with_one_line(arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments("run", "train.max_itr=2"))
    assert "max_iter" in capsys.readouterr().err


def test_evaluation_loads_the_weights(arguments, tmp_path, monkeypatch):
    tool.main(arguments("run", "train.max_iter=1"))
    seen = {}

    def look(model, loader, evaluator):
        seen.update(state=model.state_dict(), images=len(loader.dataset))
        return {}

    monkeypatch.setattr(tool, "inference_on_dataset", look)
    weights_file = tmp_path / "run" / "model_final.pth"
    args = arguments("test", f"train.init_checkpoint={weights_file}", eval_only=True)
    args.opts.remove("~dataloader.evaluator")
    tool.main(args)
    trained = weights(tmp_path / "run")
    assert all(torch.equal(seen["state"][name], trained[name]) for name in trained)
    assert seen["images"] > 0


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "MODEL: {WEIGHTS: a}",
            r"bad\.yaml has no 'model'; this is a config of tools/train",
        ),
        ("model: {a: 1}", r"bad\.yaml has no 'dataloader'; add it"),
        (None, "give a Python config: --config-file"),
    ],
)
def test_another_kind_of_config_says_what_to_do(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text or "")
    with pytest.raises(ValueError, match=message):
        tool.load_config(Namespace(config_file=str(path) if text else "", opts=[]))


def test_fewer_classes_than_the_data_are_told_before_training(arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments("few", "model.roi_heads.num_classes=5"))
    assert "the model has 5 classes, its training data 6 (" in capsys.readouterr().err


def test_a_step_that_is_not_finite_can_be_done_again(arguments, tmp_path, capsys):
    settings = ("optimizer.lr=1e8", "train.max_iter=9", "train.bad_steps.keep=1")
    with pytest.raises(SystemExit):
        tool.main(arguments("diverged", *settings))
    assert "not finite" in capsys.readouterr().err
    (path,) = (tmp_path / "diverged/bad_steps").iterdir()
    step = read_step(str(path))
    assert step["ranks"][0]["lost"] == [] and step["about"]["config_kind"] == "lazy"
    assert replay_tool.main([str(path), "--device", "cpu"]) == 0
    assert "The fault occurs again" in capsys.readouterr().out
