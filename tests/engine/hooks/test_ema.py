"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from d2lite.engine import DefaultTrainer, ModelEMA, SimpleTrainer, hooks
from tests.engine.tiny import tiny_cfg


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
    ema = ModelEMA(model, 0.125, str(tmp_path))
    trainer = SimpleTrainer(model, iter([4.0, 8.0]), torch.optim.SGD(model.parameters(), lr=0.25))
    trainer.register_hooks([ema])
    trainer.train(0, 2)
    # Weights 1, 0, -2: (1 * 1/8 + 0 * 7/8) * 1/8 + -2 * 7/8; buffer 0, 1, 2 likewise.
    assert ema.model.weight.item() == -1.734375
    assert ema.model.seen.item() == 1.859375
    assert model.weight.item() == -2
    saved = torch.load(tmp_path / "model_final_ema.pth", weights_only=True)["model"]
    assert saved["weight"].item() == -1.734375


def test_the_average_does_not_keep_the_beginning_of_a_short_training(tmp_path):
    model = Scale()
    ema = ModelEMA(model, 0.999, str(tmp_path))
    trainer = SimpleTrainer(model, iter([1.0] * 250), torch.optim.SGD(model.parameters(), lr=0.0))
    moves = [16.0, 4.0, 2.0]  # what the weight is after each of the first steps; then 2
    trainer.register_hooks(
        [
            hooks.CallbackHook(
                after_step=lambda trainer: model.weight.data.fill_(moves[min(trainer.iter, 2)])
            ),
            ema,
        ]
    )
    trainer.train(0, 3)
    # Decays (1 + t) / (10 + t): 2/11, 3/12, 4/13.
    expected = 1.0
    for decay, weight in zip((2 / 11, 3 / 12, 4 / 13), moves, strict=True):
        expected = decay * expected + (1 - decay) * weight
    assert ema.model.weight.item() == pytest.approx(expected)
    trainer.train(3, 250)
    assert ema.model.weight.item() == pytest.approx(2.0, abs=1e-4)  # 0.999 ** 250 is 0.78


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
