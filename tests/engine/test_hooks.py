import itertools
import json

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler, StepWithFixedGammaParamScheduler
from torch import nn

from d2lite.engine import SimpleTrainer, hooks
from d2lite.solver import LRMultiplier
from d2lite.utils.events import EventWriter, JSONWriter, get_event_storage


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        return {"loss": self.norm(x).square().sum()}


def make_trainer(*registered):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = itertools.repeat(torch.tensor([[1.0], [3.0]]))
    trainer = SimpleTrainer(model, data, optimizer)
    trainer.register_hooks(registered)
    return trainer


class FakeCheckpointer:
    def __init__(self, folder):
        self.save_dir = str(folder)
        self.saved = []
        self.path_manager = None

    def save(self, name, **extra):
        self.saved.append((name, extra))

    def get_checkpoint_file(self):
        return f"{self.saved[-1][0]}.pth"


def test_callbacks_get_the_trainer():
    seen = []
    names = ("before_train", "before_step", "after_backward", "after_step", "after_train")
    calls = {name: lambda trainer, name=name: seen.append((name, trainer.iter)) for name in names}
    make_trainer(hooks.CallbackHook(**calls)).train(0, 1)
    assert seen == [(name, 0) for name in names[:-1]] + [("after_train", 1)]


@pytest.mark.parametrize(
    "period, after_train, expected", [(2, True, [1, 3, 5]), (2, False, [1, 3]), (0, True, [5])]
)
def test_evaluation_is_periodic_and_after_training(period, after_train, expected):
    calls = []

    def evaluate():
        calls.append(min(get_event_storage().iter, 5))
        return {"bbox": {"AP": 10.0 * len(calls)}}

    trainer = make_trainer(hooks.EvalHook(period, evaluate, eval_after_train=after_train))
    trainer.train(0, 6)
    assert calls == expected
    assert trainer.storage.latest()["bbox/AP"][0] == 10.0 * len(expected)


def test_evaluation_must_return_floats():
    trainer = make_trainer(hooks.EvalHook(1, lambda: {"bbox": {"AP": "high"}}))
    with pytest.raises(ValueError, match=r"'high' for bbox/AP"):
        trainer.train(0, 2)


def test_no_evaluation_after_a_failed_training():
    calls = []

    def fail(trainer):
        raise RuntimeError

    trainer = make_trainer(
        hooks.CallbackHook(after_step=fail), hooks.EvalHook(0, lambda: calls.append(1))
    )
    with pytest.raises(RuntimeError):
        trainer.train(0, 2)
    assert calls == []


def best_run(folder, values, mode="max", start=0):
    checkpointer = FakeCheckpointer(folder)
    series = iter(values)
    best = hooks.BestCheckpointer(1, checkpointer, "bbox/AP", mode=mode)
    trainer = make_trainer(hooks.EvalHook(1, lambda: {"bbox": {"AP": next(series)}}), best)
    trainer.train(start, start + len(values))
    return checkpointer.saved, best


@pytest.mark.parametrize(
    "mode, values, saved_at",
    [
        ("max", [1.0, 3.0, 2.0], [0, 1]),
        ("min", [2.0, 3.0, 1.0], [0, 3]),
        ("max", [float("nan"), 1.0, 1.0], [1]),
    ],
)
def test_best_checkpoint_is_saved_when_it_is_better(tmp_path, mode, values, saved_at):
    saved, _ = best_run(tmp_path, values, mode)
    assert [extra["iteration"] for _, extra in saved] == saved_at
    assert {name for name, _ in saved} == {"model_best"}


def test_best_checkpoint_of_a_resumed_run_knows_the_best_before(tmp_path):
    best_run(tmp_path, [5.0, 1.0])
    assert json.loads((tmp_path / "model_best.json").read_text())["metric"] == 5.0
    saved, best = best_run(tmp_path, [4.0, 6.0], start=2)
    assert [extra["bbox/AP"] for _, extra in saved] == [6.0]
    assert best.best_metric == 6.0


def test_best_checkpoint_without_the_metric_warns(tmp_path, caplog):
    checkpointer = FakeCheckpointer(tmp_path)
    trainer = make_trainer(hooks.BestCheckpointer(1, checkpointer, "segm/AP"))
    trainer.train(0, 2)
    assert checkpointer.saved == []
    assert "No segm/AP was evaluated" in caplog.text


def test_lr_is_logged_before_the_schedule_moves():
    trainer = make_trainer()
    schedule = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda i: 1 / (i + 1))
    trainer.register_hooks([hooks.LRScheduler(scheduler=schedule)])
    trainer.train(0, 3)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.05, 0.1 / 3])
    other = hooks.LRScheduler(
        scheduler=torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda i: 1 / (i + 1))
    )
    state = trainer._hooks[0].state_dict()
    other.load_state_dict(state)
    assert other.scheduler.last_epoch == 3


def test_schedule_may_be_a_function_of_progress():
    trainer = make_trainer(hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0)))
    trainer.train(0, 4)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_schedule_without_a_value_at_its_end_serves_all_iterations():
    steps = StepWithFixedGammaParamScheduler(1.0, num_decays=1, gamma=0.1, num_updates=4)
    trainer = make_trainer(hooks.LRScheduler(scheduler=steps))
    trainer.train(0, 4)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01])
    # That of another training is too short, which is not passed over.
    short = LRMultiplier(trainer.optimizer, steps, max_iter=2)
    with pytest.raises(IndexError):
        make_trainer(hooks.LRScheduler(scheduler=short)).train(0, 4)


@pytest.mark.parametrize(
    "groups, expected",
    [
        ([(0.1, 1), (0.2, 3)], 1),  # the group with most parameters
        ([(0.1, 1), (0.2, 1), (0.2, 1)], 1),  # one group a parameter: the commonest rate
    ],
)
def test_rate_that_stands_for_all(groups, expected):
    parameters = [
        {"params": [nn.Parameter(torch.zeros(1)) for _ in range(count)], "lr": rate}
        for rate, count in groups
    ]
    optimizer = torch.optim.SGD(parameters)
    assert hooks.LRScheduler.get_best_param_group_id(optimizer) == expected


def test_writers_write_at_the_period_at_the_last_iteration_and_after_training():
    class Writer(EventWriter):
        def __init__(self):
            self.at, self.closed = [], False

        def write(self):
            self.at.append(get_event_storage().iter)

        def close(self):
            self.closed = True

    writer = Writer()
    make_trainer(hooks.PeriodicWriter([writer], period=3)).train(0, 5)
    assert writer.at == [2, 4, 5]
    assert writer.closed


def test_figures_of_the_checkpoints_iteration_are_written_once(tmp_path):
    """A kill between the checkpoint and the writer loses no line, one after it adds none."""
    path = tmp_path / "metrics.json"

    def iterations():
        return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]

    first = make_trainer(hooks.PeriodicWriter([JSONWriter(str(path))], period=2))
    states = []
    first.register_hooks([hooks.CallbackHook(after_step=lambda t: states.append(t.state_dict()))])
    first.train(0, 4)
    assert iterations() == [1, 3]

    def resume():
        trainer = make_trainer(hooks.PeriodicWriter([JSONWriter(str(path))], period=2))
        trainer.load_state_dict(states[3])
        trainer.train(4, 6)

    resume()
    assert iterations() == [1, 3, 5]
    path.write_text(path.read_text().splitlines()[0] + "\n")
    resume()
    assert iterations() == [1, 3, 5]


def test_timer_puts_seconds_after_the_warm_up():
    trainer = make_trainer(hooks.IterationTimer(warmup_iter=2))
    trainer.train(0, 4)
    assert [i for _, i in trainer.storage.history("time").values()] == [1, 2, 3]


@pytest.mark.parametrize(
    "start, end, warmup, measured", [(0, 5, 3, 3), (0, 5, 1, 5), (7, 10, 3, 1), (0, 2, 3, None)]
)
def test_the_timers_summary_counts_the_steps_that_it_measured(
    start, end, warmup, measured, caplog, monkeypatch
):
    ticks = itertools.count()  # each look at the clock finds it a second later
    monkeypatch.setattr(hooks.timing.Timer, "seconds", lambda self: 2.0)
    monkeypatch.setattr(hooks.timing.time, "perf_counter", lambda: float(next(ticks)))
    caplog.set_level("INFO")
    make_trainer(hooks.IterationTimer(warmup)).train(start, end)
    lines = [x.getMessage() for x in caplog.records if " iterations took " in x.getMessage()]
    expected = f"{measured} iterations took 0:00:{2 * (measured or 0):02d} (2.0000 s each)"
    assert [line.partition(";")[0] for line in lines] == ([expected] if measured else [])


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


def test_profiler_writes_a_trace_of_the_chosen_iteration(tmp_path):
    profiler = hooks.TorchProfiler(
        lambda trainer: trainer.iter == 1, str(tmp_path), save_tensorboard=False
    )
    make_trainer(profiler).train(0, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["profiler_iter1-trace.json"]
    assert json.loads((tmp_path / "profiler_iter1-trace.json").read_text())["traceEvents"]


def test_periodic_checkpoints_end_with_the_final_one(tmp_path):
    checkpointer = FakeCheckpointer(tmp_path)
    make_trainer(hooks.PeriodicCheckpointer(checkpointer, 2)).train(0, 5)
    assert [(name, extra["iteration"]) for name, extra in checkpointer.saved] == [
        ("model_0000001", 1),
        ("model_0000003", 3),
        ("model_final", 4),
    ]
