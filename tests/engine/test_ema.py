"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from d2lite.engine import DefaultTrainer, ModelEMA, SimpleTrainer

from .tiny import tiny_cfg


class Scale(nn.Module):
    """One weight, and one buffer that counts up."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, x):
        self.seen += 1
        return {"loss": self.weight * x}


def test_average_follows_the_formula(tmp_path):
    model = Scale()
    ema = ModelEMA(model, 0.75, str(tmp_path))
    trainer = SimpleTrainer(model, iter([4.0, 8.0]), torch.optim.SGD(model.parameters(), lr=0.25))
    trainer.register_hooks([ema])
    trainer.train(0, 2)
    # Weights 1, 0, -2: 0.75 * (0.75 * 1 + 0.25 * 0) + 0.25 * -2; buffer 0, 1, 2 likewise.
    assert ema.model.weight.item() == 0.0625
    assert ema.model.seen.item() == 0.6875
    assert model.weight.item() == -2
    saved = torch.load(tmp_path / "model_final_ema.pth", weights_only=True)["model"]
    assert saved["weight"].item() == 0.0625


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_names_its_key(tmp_path, decay):
    with pytest.raises(ValueError, match=r"MODEL_EMA\.DECAY"):
        ModelEMA(Scale(), decay, str(tmp_path))


def train(folder, max_iter: int, resume: bool = False):
    changes = {"MODEL_EMA__ENABLED": True, "MODEL_EMA__DECAY": 0.5, "SOLVER__CHECKPOINT_PERIOD": 2}
    trainer = DefaultTrainer(tiny_cfg(folder, SOLVER__STEPS=(), **changes))
    trainer.max_iter = max_iter
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return torch.load(folder / "model_final_ema.pth", weights_only=True)["model"]


def test_a_resumed_run_has_the_average_of_an_uninterrupted_one(tmp_path):
    expected = train(tmp_path / "whole", 4)
    train(tmp_path / "parts", 2)
    got = train(tmp_path / "parts", 4, resume=True)
    assert got.keys() == expected.keys()
    assert [name for name in got if not torch.equal(got[name], expected[name])] == []
    last = torch.load(tmp_path / "parts/model_final.pth", weights_only=True)["model"]
    name = "backbone.fpn_output5.weight"
    assert not torch.equal(got[name], last[name])


def test_the_average_is_what_is_evaluated(tmp_path, monkeypatch):
    evaluated = []
    monkeypatch.setattr(
        DefaultTrainer, "test", classmethod(lambda cls, cfg, model: evaluated.append(model) or {})
    )
    trainer = DefaultTrainer(tiny_cfg(tmp_path, MODEL_EMA__ENABLED=True, SOLVER__MAX_ITER=1))
    trainer.train()
    (model,) = evaluated
    assert model is not trainer.model
    assert model is next(x for x in trainer._hooks if isinstance(x, ModelEMA)).model
