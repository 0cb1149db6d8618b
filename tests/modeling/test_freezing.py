"""Parameters that are frozen by patterns of their names."""

import copy

import pytest
import torch
from torch import nn

from d2lite.engine import check_class_counts
from d2lite.modeling import build_model
from d2lite.modeling.freezing import freeze_parameters
from tests.engine.tiny import tiny_cfg
from tests.engine.toy_run import toy_trainer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        return self.head(self.backbone(x))


def frozen(model):
    return [name for name, p in model.named_parameters() if not p.requires_grad]


@pytest.mark.parametrize(
    "patterns, expected",
    [
        ([], []),
        (["backbone.0.*"], ["backbone.0.weight", "backbone.0.bias"]),
        (["*.0.bias", "head.1.w*"], ["backbone.0.bias", "head.0.bias", "head.1.weight"]),
        (["head.[01].bias"], ["head.0.bias", "head.1.bias"]),
    ],
)
def test_patterns_choose_parameters(patterns, expected):
    model = Net()
    freeze_parameters(model, patterns)
    assert frozen(model) == expected


def test_frozen_batch_norms_use_and_keep_their_running_statistics():
    model = Net()
    freeze_parameters(model, ["backbone.*", "head.1.weight"])
    model = copy.deepcopy(model.train())  # as the moving average copies it
    x = torch.randn(4, 1, 3, 3)
    with torch.no_grad():
        expected = copy.deepcopy(model).backbone.eval()(x)
        assert torch.equal(model.backbone(x), expected)
        model(x)
    assert model.backbone[1].num_batches_tracked == 0
    assert model.backbone[1].running_mean.tolist() == [0, 0]
    # Its bias is trained, so this one goes on as before.
    assert model.head[1].num_batches_tracked == 1


def test_a_pattern_without_a_match_names_the_nearest_one():
    message = r"FREEZE has 'backbon\.\*'.* Did you mean 'backbone\.\*'.* backbone, head"
    with pytest.raises(ValueError, match=message):
        freeze_parameters(Net(), ["head.*", "backbon.*"])
    with pytest.raises(ValueError, match=r"Did you mean 'head\.\*'"):
        freeze_parameters(Net(), ["head"])


def test_training_leaves_them_as_they_are(tmp_path):
    trainer = toy_trainer(tmp_path, MODEL__FREEZE=("conv.*", "norm.*"), SOLVER__MAX_ITER=3)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    after = trainer.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert sum(len(group["params"]) for group in trainer.optimizer.param_groups) == 2


def test_a_model_that_is_frozen_as_a_whole_cannot_be_trained(tmp_path):
    with pytest.raises(ValueError, match=r"no trainable parameters; check MODEL\.FREEZE"):
        toy_trainer(tmp_path, MODEL__FREEZE=("*",))


def test_a_detector_is_built_frozen(tmp_path):
    cfg = tiny_cfg(tmp_path, MODEL__FREEZE=("backbone.*",))
    check_class_counts(cfg)
    model = build_model(cfg)
    assert frozen(model) == [f"backbone.{name}" for name, _ in model.backbone.named_parameters()]
