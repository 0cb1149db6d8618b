"""Mean losses of each epoch."""

import json

import torch

from d2lite.engine import SimpleTrainer, hooks
from tests.engine.toy_run import metrics_of, toy_trainer


class Given(torch.nn.Module):
    """Its losses are what the batch says."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, values):
        a, b = values
        return {"loss_a": self.weight + a, "loss_b": self.weight + b}


def test_means_over_epochs():
    model = Given()
    batches = [(1.0, 2.0), (3.0, 2.0), (5.0, 2.0), (7.0, 4.0), (100.0, 100.0)]
    trainer = SimpleTrainer(model, iter(batches), torch.optim.SGD(model.parameters(), lr=0.0))
    trainer.register_hooks([hooks.EpochLosses(num_images=4, batch_size=2)])
    trainer.train(0, 5)
    histories = trainer.storage.histories()
    assert histories["epoch/loss_a"].values() == [(2.0, 1), (6.0, 3)]
    assert histories["epoch/loss_b"].values() == [(2.0, 1), (3.0, 3)]
    assert histories["epoch/total_loss"].values() == [(4.0, 1), (9.0, 3)]
    assert histories["epoch/number"].values() == [(1.0, 1), (2.0, 3)]


SETTINGS = {
    "SOLVER__EPOCH_LOSSES": True,
    "SOLVER__IMS_PER_BATCH": 12,  # an epoch is 2 iterations
    "SOLVER__MAX_ITER": 7,
    "SOLVER__CHECKPOINT_PERIOD": 3,
    "TEST__EVAL_PERIOD": 0,
}


def test_each_epoch_is_written_also_where_a_run_is_resumed_within_it(tmp_path):
    toy_trainer(tmp_path / "whole", **SETTINGS).train()
    whole = metrics_of(tmp_path / "whole")
    assert list(whole["epoch/total_loss"]) == [1, 3, 5]
    assert whole["epoch/number"] == {1: 1.0, 3: 2.0, 5: 3.0}

    toy_trainer(tmp_path / "parts", **SETTINGS).train()
    # As if it was killed in iteration 3, after the checkpoint of iteration 2, within an epoch.
    (tmp_path / "parts/last_checkpoint").write_text("model_0000002.pth")
    lines = (tmp_path / "parts/metrics.json").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["iteration"] < 3]
    (tmp_path / "parts/metrics.json").write_text("".join(kept))
    toy_trainer(tmp_path / "parts", resume=True, **SETTINGS).train()
    parts = metrics_of(tmp_path / "parts")
    for name in ("epoch/total_loss", "epoch/loss_count", "epoch/number"):
        assert parts[name] == whole[name]


def test_an_epoch_that_ended_with_the_checkpoint_is_written_after_a_kill(tmp_path):
    settings = {**SETTINGS, "SOLVER__CHECKPOINT_PERIOD": 2}
    toy_trainer(tmp_path, **settings).train()
    whole = metrics_of(tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    lines = (tmp_path / "metrics.json").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["iteration"] < 3]
    (tmp_path / "metrics.json").write_text("".join(kept))
    toy_trainer(tmp_path, resume=True, **settings).train()
    assert metrics_of(tmp_path)["epoch/total_loss"] == whole["epoch/total_loss"]
