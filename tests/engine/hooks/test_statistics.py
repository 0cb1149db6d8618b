import pytest
import torch

from d2lite.engine import hooks
from tests.engine.hooks.trainers import make_trainer


def test_precise_statistics_are_the_means_of_the_batches():
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])]
    trainer = make_trainer()
    precise = hooks.PreciseBN(0, trainer.model, batches, num_iter=2)
    trainer.register_hooks([precise])
    trainer.train(0, 3)
    # Means 1 and 6, unbiased variances 2 and 8; the population variance over both batches also
    # counts the spread of the means.
    assert trainer.model.norm.running_mean.item() == pytest.approx(3.5)
    assert "total_loss" in trainer.storage.latest()  # the figures of training, not of that pass


def test_precise_statistics_see_the_same_batches_each_time():
    class Loader:
        def __init__(self):
            self.position = 0

        def __iter__(self):
            while True:
                self.position += 1
                yield torch.tensor([[0.0], [float(self.position)]])

        def state_dict(self):
            return {"position": self.position}

        def load_state_dict(self, state):
            self.position = state["position"]

    trainer = make_trainer()
    precise = hooks.PreciseBN(1, trainer.model, Loader(), num_iter=2)
    trainer.register_hooks([precise])
    trainer.train(0, 1)
    once = trainer.model.norm.running_mean.clone()
    precise.update_stats()
    assert torch.equal(trainer.model.norm.running_mean, once)
