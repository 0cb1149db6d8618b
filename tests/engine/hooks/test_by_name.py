"""Hooks that the config names."""

import pytest
import torch

from d2lite.config import configurable
from d2lite.engine import HookBase
from d2lite.engine.hooks import HOOK_REGISTRY
from tests.engine.toy_run import toy_cfg, toy_trainer
from tests.reliability.toy import ToyTrainer


@HOOK_REGISTRY.register()
class CountSteps(HookBase):
    """Counts, in a state that belongs to the checkpoint."""

    def __init__(self, cfg):
        self.every = cfg.TEST.EVAL_PERIOD
        self.count = 0

    def after_step(self):
        self.count += 1
        self.trainer.storage.put_scalar("steps", self.count, smoothing_hint=False)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]


@HOOK_REGISTRY.register()
class OfParts(HookBase):
    """Takes what it needs instead of a config."""

    @configurable
    def __init__(self, *, period: int):
        self.period = period

    @classmethod
    def from_config(cls, cfg):
        return {"period": cfg.SOLVER.CHECKPOINT_PERIOD}


@HOOK_REGISTRY.register()
def no_hook_at_all(cfg):
    return cfg.SEED


def of_type(trainer, kind):
    return [hook for hook in trainer._hooks if isinstance(hook, kind)]


def test_hooks_are_built_from_the_config_in_their_order(tmp_path):
    trainer = toy_trainer(tmp_path, HOOKS=("OfParts", "CountSteps"), SOLVER__MAX_ITER=2)
    first, second = of_type(trainer, (OfParts, CountSteps))
    assert first.period == 3 and second.every == 3
    trainer.train()
    assert trainer.storage.latest()["steps"] == (2, 1)


def test_the_state_of_a_hook_is_in_the_checkpoint_of_the_same_iteration(tmp_path):
    toy_trainer(tmp_path, HOOKS=("CountSteps",), SOLVER__MAX_ITER=4).train()
    saved = torch.load(tmp_path / "model_0000002.pth", weights_only=True)["trainer"]
    assert saved["hooks"]["CountSteps"] == {"count": 3}
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    trainer = toy_trainer(tmp_path, resume=True, HOOKS=("CountSteps",), SOLVER__MAX_ITER=4)
    trainer.train()
    assert of_type(trainer, CountSteps)[0].count == 4


def test_an_unknown_hook_is_named_with_the_nearest_one(tmp_path):
    with pytest.raises(KeyError, match=r"HOOKS: .*'CountStep'.* Did you mean 'CountSteps'"):
        ToyTrainer(toy_cfg(tmp_path, HOOKS=("CountStep",)))


def test_what_is_not_a_hook_is_refused(tmp_path):
    with pytest.raises(
        TypeError, match=r"HOOKS: no_hook_at_all returned 3, which is not a HookBase"
    ):
        ToyTrainer(toy_cfg(tmp_path, HOOKS=("no_hook_at_all",)))
