"""Signals, and kills between two hooks: the run that goes on ends as one that was left alone."""

import json
import os
import re
import signal
import sys
import time

import pytest
import torch
from torch import nn

from d2lite.checkpoint import Checkpointer
from d2lite.engine import BestCheckpointer, EarlyStop, SimpleTrainer, hooks
from d2lite.utils.events import JSONWriter
from d2lite.utils.stop_signals import StopRequested, check_stop
from tests.engine.tiny import command, started

MAX_ITER, PERIOD, SAVE_PERIOD = 12, 3, 3
METRICS = [0.1, 0.5, 0.4, 0.3]  # of the evaluations; the second is the best


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 1.0]))

    def forward(self, x):
        return {"loss": (self.weight * x).square().sum()}


class Killed(BaseException):
    """A stop like kill -9: nothing of the trainer runs afterwards."""


class Trainer(SimpleTrainer):
    """Does `in_step(iteration)` within each step; hooks are not told of a kill."""

    in_step = staticmethod(lambda iteration: None)
    killed = False

    def run_step(self):
        type(self).in_step(self.iter)
        super().run_step()

    def after_train(self):
        if not self.killed:
            super().after_train()


class At(hooks.HookBase):
    """Does something after a step, between the other hooks."""

    def __init__(self, iteration, action):
        self.iteration, self.action = iteration, action

    def after_step(self):
        if self.trainer.iter == self.iteration:
            self.action(self.trainer)


def kill(trainer):
    trainer.killed = True
    raise Killed


class Data:
    """Batches by position, which a checkpoint keeps."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        while True:
            self.position += 1
            yield torch.tensor(1.0 + self.position)

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def run(folder, *, resume=False, in_step=None, evaluate=None, patience=None, kills=()):
    """Train, evaluate, keep the best, write, as DefaultTrainer does.

    kills: pairs (place, iteration): places are "evaluation", "best", "writer": before that hook.
    """
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    trainer = Trainer(model, Data(), optimizer)
    if in_step is not None:
        trainer.in_step = in_step
        Trainer.in_step = staticmethod(in_step)
    checkpointer = Checkpointer(model, str(folder), trainer=trainer)

    def test():
        if evaluate is not None:
            evaluate(trainer.iter)
        return {"bbox": {"AP": METRICS[min(trainer.iter // PERIOD, len(METRICS) - 1)]}}

    best = BestCheckpointer(PERIOD, checkpointer, "bbox/AP")
    before = {
        place: [At(iteration, kill) for its_place, iteration in kills if its_place == place]
        for place in ("evaluation", "best", "writer")
    }
    trainer.register_hooks(
        [
            hooks.LRScheduler(
                optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
            ),
            hooks.PeriodicCheckpointer(checkpointer, SAVE_PERIOD),
            *before["evaluation"],
            hooks.EvalHook(PERIOD, test),
            *before["best"],
            best,
            *([EarlyStop(PERIOD, patience, "bbox/AP", best)] if patience else []),
            *before["writer"],
            hooks.PeriodicWriter([JSONWriter(str(folder / "metrics.json"))], period=5),
        ]
    )
    checkpointer.resume_or_load("", resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    try:
        trainer.train(start, MAX_ITER)
    finally:
        Trainer.in_step = staticmethod(lambda iteration: None)
    return trainer


def end_state(folder):
    """All that a run leaves: weights, best weights, their record, and what was written."""
    best = torch.load(folder / "model_best.pth", weights_only=True)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    for line in lines:
        for key in ("data_time", "rank_data_time"):
            line.pop(key, None)
    return {
        "final": torch.load(folder / "model_final.pth", weights_only=True)["model"][
            "weight"
        ].tolist(),
        "best": best["model"]["weight"].tolist(),
        "best iteration": (best["iteration"], best["trainer"]["iteration"]),
        "record": json.loads((folder / "model_best.json").read_text()),
        "metrics": lines,
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    run(folder)
    return end_state(folder)


def test_every_evaluation_is_written_whatever_its_period_is(alone):
    found = {line["iteration"]: line["bbox/AP"] for line in alone["metrics"] if "bbox/AP" in line}
    assert found == {2: 0.1, 5: 0.5, 8: 0.4, 12: 0.3}
    assert [line["iteration"] for line in alone["metrics"]] == [2, 4, 5, 8, 9, 11, 12]


@pytest.mark.parametrize("iteration", [2, 5, 8])
@pytest.mark.parametrize("place", ["evaluation", "best", "writer"])
def test_a_kill_between_checkpoint_and_evaluation_changes_nothing(
    tmp_path, alone, place, iteration
):
    with pytest.raises(Killed):
        run(tmp_path, kills=[(place, iteration)])
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


@pytest.mark.parametrize("place", ["evaluation", "best", "writer"])
def test_patience_counts_an_evaluation_that_a_kill_has_cut_off(tmp_path, place):
    run(tmp_path / "alone", patience=1)
    expected = end_state(tmp_path / "alone")
    assert [line["iteration"] for line in expected["metrics"]][-1] == 8
    with pytest.raises(Killed):
        run(tmp_path / "killed", patience=1, kills=[(place, 8)])
    run(tmp_path / "killed", patience=1, resume=True)
    assert end_state(tmp_path / "killed") == expected


def sending(number, at):
    def send(iteration):
        if iteration == at:
            os.kill(os.getpid(), number)

    return send


@pytest.fixture(autouse=True)
def usual_handler():
    """Python's own, also where the tests run with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("iteration", [1, 5, 7])
@pytest.mark.parametrize(
    "number, error, code", [(signal.SIGINT, StopRequested, 130), (signal.SIGTERM, SystemExit, 143)]
)
def test_a_stop_finishes_the_iteration_and_saves(tmp_path, alone, number, error, code, iteration):
    with pytest.raises(error) as stop:
        run(tmp_path, in_step=sending(number, iteration))
    assert getattr(stop.value, "exit_code", getattr(stop.value, "code", None)) == code
    assert (tmp_path / "last_checkpoint").read_text() == f"model_{iteration:07d}.pth"
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


def test_a_stop_within_an_evaluation_leaves_it_for_the_run_that_goes_on(tmp_path, alone):
    def stop(iteration):
        if iteration == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            check_stop()  # as the evaluation's loop does after each batch
            pytest.fail("the evaluation went on")

    (tmp_path / "last_checkpoint").write_text("")
    with pytest.raises(SystemExit):
        run(tmp_path, evaluate=stop)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


def test_a_loader_that_fails_because_of_the_signal_loses_nothing(tmp_path, alone):
    def stop(iteration):
        if iteration == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    with pytest.raises(SystemExit) as error:
        run(tmp_path, evaluate=stop)
    assert error.value.code == 143
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


def test_a_failure_before_the_checkpoint_saves_none_of_that_iteration(tmp_path, alone, monkeypatch):
    step = hooks.LRScheduler.after_step

    def stop(hook):
        step(hook)
        if hook.trainer.iter == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("Connection closed by peer")  # another rank has died

    monkeypatch.setattr(hooks.LRScheduler, "after_step", stop)
    with pytest.raises(SystemExit):
        run(tmp_path)
    assert not (tmp_path / "model_0000004.pth").exists()
    monkeypatch.undo()
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


def test_a_stop_within_the_last_evaluation(tmp_path, alone):
    def stop(iteration):
        if iteration == MAX_ITER:
            os.kill(os.getpid(), signal.SIGTERM)
            check_stop()

    with pytest.raises(SystemExit) as error:
        run(tmp_path, evaluate=stop)
    assert error.value.code == 143
    run(tmp_path, resume=True)
    assert end_state(tmp_path) == alone


def test_sigusr1_saves_and_goes_on(tmp_path, alone):
    run(tmp_path, in_step=sending(signal.SIGUSR1, 6))
    assert (tmp_path / "model_0000006.pth").is_file()
    assert end_state(tmp_path) == alone


def test_the_record_of_the_best_is_whole_at_any_time(tmp_path, monkeypatch):
    run(tmp_path)
    before = (tmp_path / "model_best.json").read_text()

    def die(*args, **kwargs):
        args[1].write('{"metric"')
        raise Killed

    monkeypatch.setattr(hooks.json, "dump", die)
    with pytest.raises(Killed):
        run(tmp_path)
    assert (tmp_path / "model_best.json").read_text() == before


SPAWNED = ["--num-gpus", "2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["iter: 19 ", "Start inference on"])
@pytest.mark.parametrize(
    "start, whole_group, number, codes",
    [
        ("spawn", False, signal.SIGTERM, [143]),
        ("spawn", True, signal.SIGTERM, [143]),
        ("spawn", True, signal.SIGINT, [130]),
        ("torchrun", False, signal.SIGTERM, [1, 143, -signal.SIGTERM]),  # torchrun has its own
        ("torchrun", True, signal.SIGTERM, [1, 143, -signal.SIGTERM]),
    ],
)
def test_two_processes_stop_together_within_the_time_that_schedulers_give(
    tmp_path, start, whole_group, number, codes, moment
):
    settings = {"SOLVER__MAX_ITER": 100000, "SOLVER__STEPS": (), "SOLVER__CHECKPOINT_PERIOD": 50000}
    settings |= {"TEST__EVAL_PERIOD": 25, "DATASETS__TEST": ("shapes_val",)}
    settings |= {"DATALOADER__NUM_WORKERS": 1}
    arguments = command(tmp_path, *(SPAWNED if start == "spawn" else []), **settings)
    if start == "torchrun":
        arguments = [*TORCHRUN, *arguments[1:]]
    output = tmp_path / "out.txt"
    with started(arguments, output, output, until=moment, seconds=300) as process:
        began = time.monotonic()
        (os.killpg if whole_group else os.kill)(process.pid, number)
        code = process.wait(timeout=60)
        seconds = time.monotonic() - began
    text = output.read_text()
    assert code in codes, text
    assert seconds < 30
    assert "Traceback" not in text.partition("Stopped at iteration")[0]
    iteration = int(re.search(r"Stopped at iteration (\d+) of 100000", text)[1])
    last = tmp_path / (tmp_path / "last_checkpoint").read_text()
    assert last.name == f"model_{iteration:07d}.pth"
    assert torch.load(last, weights_only=True)["iteration"] == iteration
