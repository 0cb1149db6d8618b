"""The search for a learning rate."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.commands import main
from d2lite.engine.lr_finder import LRSweep, draw_sweep, find_lr
from tests.engine.toy_run import toy_cfg, toy_trainer
from tests.reliability import toy
from tests.reliability.end_state import differences
from tests.reliability.toy import ToyTrainer


class Parabola(torch.nn.Module):
    """One weight with the loss w**2 / 2, so that a step multiplies it by 1 - rate."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        return {"loss": self.weight**2 / 2}


class ParabolaTrainer(ToyTrainer):
    @classmethod
    def build_model(cls, cfg):
        return Parabola()


def parabola(tmp_path, **changes):
    plain = {"SOLVER__MOMENTUM": 0.0, "SOLVER__WEIGHT_DECAY": 0.0, "DATASETS__TEST": ()}
    return ParabolaTrainer(toy_cfg(tmp_path, TEST__BEST_METRIC="", **plain, **changes))


def test_the_sweep_is_that_of_the_formula(tmp_path):
    found = find_lr(parabola(tmp_path), min_lr=1.3e-3, max_lr=13.0, num_iter=31, smoothing=0.0)
    rates = [1.3e-3 * 1e4 ** (k / 30) for k in range(len(found.rates))]
    assert found.rates == pytest.approx(rates)
    weight, losses = 1.0, []
    for rate in rates:
        losses.append(weight**2 / 2)
        weight *= 1 - rate
    assert found.losses == pytest.approx(losses, rel=1e-5)
    assert found.smoothed == pytest.approx(found.losses)
    # Rates above 2 make the weight grow: the loss before the first of them is the lowest, and it
    # has diverged before the last of them.
    assert len(found.rates) < 31 and found.losses[-1] > 4 * min(losses)
    lowest = min(rate for rate in rates if rate > 2)
    assert found.suggested == pytest.approx(lowest / 10)


def test_the_average_is_corrected_for_its_start(tmp_path):
    found = find_lr(parabola(tmp_path), min_lr=1e-3, max_lr=1.0, num_iter=20, smoothing=0.5)
    a, b, c = found.losses[:3]
    assert found.smoothed[:3] == pytest.approx([a, (a + 2 * b) / 3, (a + 2 * b + 4 * c) / 7])


def test_everything_is_as_before(tmp_path):
    settings = {"MODEL_EMA__ENABLED": True, "SOLVER__AMP__ENABLED": True}
    plain = toy_trainer(tmp_path / "plain", SOLVER__MAX_ITER=4, **settings)
    plain.train()
    trainer = toy_trainer(tmp_path / "searched", SOLVER__MAX_ITER=4, **settings)
    before = copy.deepcopy((trainer.model.state_dict(), trainer.state_dict()))
    find_lr(trainer, num_iter=30)
    assert differences(before, (trainer.model.state_dict(), trainer.state_dict())) == []
    trainer.train()
    assert differences(dict(plain.model.state_dict()), dict(trainer.model.state_dict())) == []


def test_groups_keep_the_ratios_of_their_rates(tmp_path):
    trainer = toy_trainer(tmp_path, SOLVER__BIAS_LR_FACTOR=2.0)
    seen = []
    step = trainer._trainer.optimizer_step
    trainer._trainer.optimizer_step = lambda: (
        seen.append(sorted({g["lr"] for g in trainer.optimizer.param_groups})),
        step(),
    )
    found = find_lr(trainer, num_iter=20, max_lr=0.1)
    assert seen == [pytest.approx([rate, 2 * rate]) for rate in found.rates]


def test_a_loss_that_does_not_fall_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"the loss does not fall in 11 iterations"):
        find_lr(parabola(tmp_path), min_lr=3.0, max_lr=5.0, num_iter=20)


def test_the_picture(tmp_path):
    rates = [10 ** (k / 10 - 5) for k in range(40)]
    losses = [1 / (1 + 100 * rate) for rate in rates]
    draw_sweep(LRSweep(rates, losses, losses, 0.01), str(tmp_path / "sweep.png"))
    assert np.asarray(Image.open(tmp_path / "sweep.png")).std() > 5


def test_the_command_suggests_a_rate_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text("VERSION: 2\n")
    toy.register_data()
    changes = {"DATASETS.TEST": (), "TEST.BEST_METRIC": "", "OUTPUT_DIR": str(tmp_path / "run")}
    settings = [str(x) for pair in {**toy.SETTINGS, **changes}.items() for x in pair]
    main(["train", "--config", str(config), "--find-lr", *settings])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "run/lr_finder.json").read_text())
    assert f"suggested: --lr {found['suggested']:.2g}" in printed
    assert len(found["rates"]) == len(found["losses"])
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "lr_finder.json",
        "lr_finder.png",
    ]
