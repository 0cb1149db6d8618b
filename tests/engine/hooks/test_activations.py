"""Statistics of the layers' outputs."""

import pytest
import torch
from torch import nn

from d2lite.engine import SimpleTrainer, hooks
from tests.engine.toy_run import metrics_of, toy_trainer


class Net(nn.Module):
    """Calls one layer twice, with outputs of different sizes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1, bias=False)
        self.fc.weight.data.fill_(2.0)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        first, second = self.fc(x), self.fc(x[:1] - 1)
        return {"loss": self.norm(first).sum() + second.sum()}


def train(hook_period, num_iter=4, fail_at=None):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = iter([torch.tensor([[1.0], [2.0], [0.0]])] * num_iter)
    trainer = SimpleTrainer(model, batches, optimizer)
    trainer.register_hooks([hooks.ActivationStatistics(model, hook_period)])
    if fail_at is not None:
        model.norm.register_forward_hook(lambda *_: 1 / (trainer.iter - fail_at) and None)
    return model, trainer


def test_all_outputs_of_a_layer_count():
    model, trainer = train(2)
    trainer.train(0, 4)
    # Outputs 2, 4, 0 and then 0: mean 6 / 4, variance (4 + 16) / 4 - 1.5**2 = 2.75, two zeros.
    histories = trainer.storage.histories()
    for name, value in (("mean", 1.5), ("std", 2.75**0.5), ("zeros", 0.5)):
        found = histories[f"activation/fc/{name}"].values()
        assert found == [(pytest.approx(value), 1), (pytest.approx(value), 3)]
    assert not any("norm" in name for name in histories)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_step_that_fails_leaves_nothing_in_the_model():
    model, trainer = train(1, fail_at=1)
    with pytest.raises(ZeroDivisionError):
        trainer.train(0, 4)
    assert not model.fc._forward_hooks


def test_each_is_written_and_the_training_is_as_before(tmp_path):
    settings = {"SOLVER__MAX_ITER": 6, "DATASETS__TEST": (), "TEST__BEST_METRIC": ""}
    toy_trainer(tmp_path / "with", ACTIVATION_PERIOD=2, **settings).train()
    toy_trainer(tmp_path / "without", **settings).train()
    found = metrics_of(tmp_path / "with")
    for layer in ("conv", "fc"):
        for what in ("mean", "std", "zeros"):
            assert list(found[f"activation/{layer}/{what}"]) == [1, 3, 5]
    ends = [
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("with", "without")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
