"""Gradient accumulation: the update of a whole batch, from parts that go through one by one."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from d2lite.config import CfgNode
from d2lite.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model
from d2lite.engine.accumulation import split_batch
from d2lite.engine.replay import read_step, replay_step
from d2lite.solver.build import maybe_add_gradient_clipping
from d2lite.utils import comm
from tests.engine.tiny import tiny_cfg


class Net(nn.Module):
    """Mean losses and no batch statistics, so that the parts add up to the whole."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.sizes = []  # of the batches that went through

    def forward(self, batch):
        self.sizes.append(len(batch))
        y = self.layers(torch.stack([item["x"] for item in batch]))
        return {"loss_a": y.square().mean(), "loss_b": (y - 1).abs().mean()}


def batches(size=6, seed=0, fault_at=None):
    """Endless batches; item 4 of batch `fault_at` is not finite."""
    generator = torch.Generator().manual_seed(seed)
    for position in range(1000):
        batch = [{"x": torch.randn(3, generator=generator)} for _ in range(size)]
        if position == fault_at:
            batch[4]["x"][0] = math.nan
        yield batch


def make(steps, kind=SimpleTrainer, clip=0.0, data=None, **options):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if clip:
        node = CfgNode({"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": clip, "NORM_TYPE": 2.0})
        optimizer = maybe_add_gradient_clipping(
            CfgNode({"SOLVER": {"CLIP_GRADIENTS": node}}), optimizer
        )
    trainer = kind(model, data or batches(), optimizer, **options)
    trainer.accumulate_steps = steps
    return trainer


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def scaled(init_scale=1024.0):
    # float32, to compare; the scaler works as it does with float16.
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    return {"grad_scaler": scaler, "precision": torch.float32, "kind": AMPTrainer}


@pytest.mark.parametrize("options", [{}, {"clip": 0.05}, {"zero_grad_before_forward": True}])
@pytest.mark.parametrize("steps, sizes", [(2, [3, 3]), (6, [1] * 6), (4, [1, 2, 1, 2])])
def test_weights_and_logged_losses_are_those_of_the_whole_batch(steps, sizes, options):
    whole, divided = make(1, **options), make(steps, **options)
    calls = []
    divided.after_backward = lambda: calls.append(divided.iter)
    whole.train(0, 4)
    divided.train(0, 4)
    torch.testing.assert_close(weights(divided), weights(whole), rtol=1e-5, atol=1e-7)
    assert divided.model.sizes == sizes * 4 and whole.model.sizes == [6] * 4
    assert calls == [0, 1, 2, 3]  # hooks see the gradients once they are complete
    for name in ("loss_a", "loss_b", "total_loss"):
        expected = [value for value, _ in whole.storage.history(name).values()]
        found = [value for value, _ in divided.storage.history(name).values()]
        assert found == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_the_loss_scaler_steps_once_for_all_parts():
    whole, divided = make(1), make(3, **scaled())
    whole.train(0, 3)
    divided.train(0, 3)
    torch.testing.assert_close(weights(divided), weights(whole), rtol=1e-5, atol=1e-6)
    assert divided.grad_scaler._get_growth_tracker() == 3


@pytest.mark.parametrize("options", [{}, {**scaled(), "precision": torch.bfloat16}])
def test_a_fault_in_one_part_skips_the_step_and_can_be_replayed(tmp_path, options):
    trainer = make(3, data=batches(fault_at=1), **options)
    trainer.bad_steps.set_up(str(tmp_path), action="skip")
    trainer.train(0, 1)
    before = weights(trainer)
    trainer.train(1, 2)
    assert torch.equal(weights(trainer), before) and trainer.bad_steps.num_skipped == 1
    step = read_step(str(tmp_path / "bad_steps/iter_0000001.pth"))
    assert step["trainer"]["accumulate_steps"] == 3
    model = Net()
    replay = replay_step(model, step, 0)
    assert replay.is_bad and model.sizes == [2, 2, 2]


def test_a_replay_adds_up_the_losses_of_the_parts(tmp_path):
    trainer = make(3, data=batches(fault_at=2))
    trainer.bad_steps.set_up(str(tmp_path))
    trainer.train(0, 2)
    with pytest.raises(FloatingPointError):
        trainer.train(2, 3)
    step = read_step(str(tmp_path / "bad_steps/iter_0000002.pth"))
    step["ranks"][0]["batch"][4]["x"][0] = 0.5
    model = Net()
    replay = replay_step(model, step, 0)
    losses = copy.deepcopy(model)(step["ranks"][0]["batch"])
    assert replay.losses == pytest.approx({name: loss.item() for name, loss in losses.items()})


def test_parts_of_a_batch():
    assert split_batch({"x": 1}, 1) == [({"x": 1}, 1.0)]
    assert split_batch([1, 2, 3], 2) == [([1], 1 / 3), ([2, 3], 2 / 3)]
    assert split_batch([1, 2], 5) == [([1], 0.5), ([2], 0.5)]
    with pytest.raises(TypeError, match=r"SOLVER.ACCUMULATE_STEPS is 2.*returns a dict"):
        split_batch({"x": 1}, 2)


def test_two_processes_exchange_gradients_once_for_each_update(tmp_path):
    mp.spawn(_one_of_two, args=(tmp_path,), nprocs=2)


def _one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    results = []
    for steps in (1, 3):
        trainer = make(steps, data=batches(seed=rank))
        trainer.model = create_ddp_model(trainer.model, broadcast_buffers=False)
        exchanged = []

        def count_and_average(state, bucket, exchanged=exchanged):
            exchanged.append(bucket.index())
            average = dist.all_reduce(bucket.buffer() / 2, async_op=True).get_future()
            return average.then(lambda future: future.value()[0])

        trainer.model.register_comm_hook(None, count_and_average)
        trainer.train(0, 4)
        assert exchanged == [0] * 4
        results.append(weights(trainer))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-7)
    of_both = [None, None]
    dist.all_gather_object(of_both, results[1].tolist())
    assert of_both[0] == of_both[1]
    dist.barrier()
    comm.leave_process_groups()


def test_the_key_reaches_the_trainer(tmp_path):
    cfg = tiny_cfg(tmp_path, SOLVER__ACCUMULATE_STEPS=2, SOLVER__MAX_ITER=2)
    trainer = DefaultTrainer(cfg)
    sizes = []
    trainer.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    trainer.train()
    assert sizes == [1, 1, 1, 1]
    assert trainer.storage.count_samples("total_loss", 20) == 2


@pytest.mark.parametrize(
    "steps, message",
    [(0, "ACCUMULATE_STEPS is 0"), (3, "ACCUMULATE_STEPS is 3, but each process has 2 images")],
)
def test_numbers_that_cannot_be(tmp_path, steps, message):
    with pytest.raises(ValueError, match=message):
        DefaultTrainer(tiny_cfg(tmp_path, SOLVER__ACCUMULATE_STEPS=steps))
