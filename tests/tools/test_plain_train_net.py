import importlib.util

import pytest
import torch

from d2lite.engine import check_class_counts
from d2lite.modeling import build_model
from tests.engine.tiny import ROOT, tiny_cfg

spec = importlib.util.spec_from_file_location("plain_train_net", ROOT / "tools/plain_train_net.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def train(folder, action):
    """Three steps, the second with a loss that is not finite."""
    settings = {"SOLVER__BAD_STEPS__ACTION": action, "SOLVER__MAX_ITER": 3, "SOLVER__STEPS": ()}
    cfg = tiny_cfg(folder, **settings)
    folder.mkdir()
    check_class_counts(cfg)
    model = build_model(cfg)
    forward, calls = model.forward, []

    def spoiled(batch):
        losses = forward(batch)
        calls.append(losses)
        if len(calls) == 2:
            losses["loss_cls"] = losses["loss_cls"] * float("nan")
        return losses

    model.forward = spoiled
    tool.train(cfg, model, resume=False)
    return len(calls)


def test_a_step_that_is_not_finite_ends_the_loop_or_is_left_out(tmp_path):
    with pytest.raises(FloatingPointError, match=r"Iteration 1: the losses are .*replay_step\.py"):
        train(tmp_path / "raise", "raise")
    assert train(tmp_path / "skip", "skip") == 3
    for folder in ("raise", "skip"):
        assert (tmp_path / folder / "bad_steps/iter_0000001.pth").is_file()
    final = torch.load(tmp_path / "skip/model_final.pth", weights_only=True)
    assert final["iteration"] == 2
    assert all(torch.isfinite(value).all() for value in final["model"].values())
