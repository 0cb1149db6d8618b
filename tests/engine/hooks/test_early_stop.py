"""Training that ends when evaluations are no better."""

import itertools
import logging

import pytest
import torch

from d2lite.checkpoint import Checkpointer
from d2lite.engine import DefaultTrainer, EarlyStop, SimpleTrainer, hooks
from d2lite.utils import comm
from tests.engine.tiny import Weight, tiny_cfg

PERIOD = 2
NAN = float("nan")


class Crash(Exception):
    pass


def run(folder, values, patience, *, max_iter=100, resume=False, crash_in=None, save_period=3):
    """Train with the n-th evaluation giving values[n]; gives the trainer and what was evaluated."""
    model = Weight()
    data = itertools.repeat(torch.tensor(2.0))
    trainer = SimpleTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    checkpointer = Checkpointer(model, str(folder), trainer=trainer)
    evaluated = []

    def evaluate():
        # In after_train the iteration is the one behind the last.
        steps = trainer.iter + (trainer.iter < trainer.max_iter)
        evaluated.append(steps - 1)
        return {"bbox": {"AP": values[steps // PERIOD - 1]}}

    def crash(trainer):
        if trainer.iter == crash_in:
            raise Crash

    best = hooks.BestCheckpointer(PERIOD, checkpointer, "bbox/AP")
    trainer.register_hooks(
        [
            hooks.PeriodicCheckpointer(checkpointer, save_period),
            hooks.EvalHook(PERIOD, evaluate),
            best,
            EarlyStop(PERIOD, patience, "bbox/AP", best),
            hooks.CallbackHook(after_step=crash),
        ]
    )
    checkpointer.resume_or_load("", resume=resume)
    start = trainer.iter + 1 if resume else 0
    if crash_in is None:
        trainer.train(start, max_iter)
    else:
        with pytest.raises(Crash):
            trainer.train(start, max_iter)
    return trainer, evaluated


@pytest.mark.parametrize(
    "values, patience, evaluations",
    [
        ([3.0, 2.0, 1.0], 1, 2),
        ([3.0, 2.0, 3.0, 4.0], 2, 3),  # as good is not better
        ([1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 2.0], 2, 7),
        ([NAN, NAN, 1.0], 2, 2),
        ([NAN, 1.0, NAN, NAN], 2, 4),
    ],
)
def test_training_stops_at_the_evaluation_that_exhausts_the_patience(
    tmp_path, values, patience, evaluations
):
    trainer, evaluated = run(tmp_path, values, patience)
    last = evaluations * PERIOD - 1
    assert trainer.iter == trainer.max_iter == last + 1
    # The last iteration is not evaluated twice.
    assert evaluated == list(range(PERIOD - 1, last + 1, PERIOD))
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert saved["iteration"] == saved["trainer"]["iteration"] == last
    assert saved["model"]["weight"] == trainer.model.weight


def test_training_that_gets_better_ends_at_its_last_iteration(tmp_path):
    trainer, evaluated = run(tmp_path, [1.0, 2.0, 1.0, 1.0], 2, max_iter=8)
    assert trainer.iter == 8 and evaluated == [1, 3, 5, 7]
    assert not trainer.stopped


@pytest.mark.parametrize("crash_in", range(2, 10))
@pytest.mark.parametrize("save_period", [1, 2, 3])
def test_a_resumed_run_stops_where_an_uninterrupted_one_does(tmp_path, crash_in, save_period):
    values = [NAN, 1.0, 3.0, 2.0, 1.0, 0.0, 9.0, 9.0]
    whole, _ = run(tmp_path / "whole", values, 3)
    assert whole.iter == 12
    run(tmp_path / "parts", values, 3, crash_in=crash_in, save_period=save_period)
    got, _ = run(tmp_path / "parts", values, 3, resume=True, save_period=save_period)
    assert 0 < got.start_iter <= crash_in + 1
    assert got.iter == 12 and torch.equal(got.model.weight, whole.model.weight)


def test_without_any_figure_a_resumed_run_stops_there_too(tmp_path):
    values = [NAN] * 9
    assert run(tmp_path / "whole", values, 3)[0].iter == 6
    run(tmp_path / "parts", values, 3, crash_in=4, save_period=2)
    assert run(tmp_path / "parts", values, 3, resume=True)[0].iter == 6


def test_a_stopped_run_goes_on_with_more_patience_only(tmp_path):
    values = [3.0, 2.0, 1.0, 4.0, 0.0, 0.0, 0.0]
    run(tmp_path, values, 1)
    again, _ = run(tmp_path, values, 1, resume=True)
    assert (again.start_iter, again.iter) == (4, 4)
    patient, _ = run(tmp_path, values, 3, resume=True)
    assert (patient.start_iter, patient.iter) == (4, 14)
    uninterrupted, _ = run(tmp_path / "whole", values, 3)
    assert torch.equal(patient.model.weight, uninterrupted.model.weight)


def test_a_figure_that_is_not_evaluated_stops_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="d2lite")
    checkpointer = Checkpointer(Weight(), str(tmp_path))
    best = hooks.BestCheckpointer(1, checkpointer, "bbox/APP")
    model = Weight()
    trainer = SimpleTrainer(
        model, itertools.repeat(torch.tensor(2.0)), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    evaluation = hooks.EvalHook(1, lambda: {"bbox": {"AP": 1.0}})
    trainer.register_hooks([evaluation, best, EarlyStop(1, 1, "bbox/APP", best)])
    trainer.train(0, 4)
    assert trainer.iter == 4 and not trainer.stopped
    assert "No bbox/APP was evaluated" in caplog.text


@pytest.mark.parametrize("on_main, stops", [(1, False), (2, True)])
def test_all_ranks_do_what_the_main_process_says(monkeypatch, on_main, stops):
    # Counts of evaluations; a step gathers its metrics too.
    monkeypatch.setattr(
        comm, "all_gather", lambda own: [on_main, own] if isinstance(own, int) else [own]
    )
    model = Weight()
    trainer = SimpleTrainer(
        model, itertools.repeat(torch.tensor(2.0)), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    trainer.register_hooks([EarlyStop(2, 2, "bbox/AP", best=None)])
    trainer.train(0, 5)
    assert trainer.iter == (2 if stops else 5)


def test_config_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        DefaultTrainer, "test", classmethod(lambda cls, cfg, model: {"bbox": {"AP": 5.0}})
    )
    cfg = tiny_cfg(
        tmp_path,
        TEST__PATIENCE=1,
        TEST__EVAL_PERIOD=1,
        TEST__BEST_METRIC="bbox/AP",
        DATASETS__TEST=("shapes_val",),
        MODEL_EMA__ENABLED=True,
    )
    trainer = DefaultTrainer(cfg)
    assert trainer.train() == {"bbox": {"AP": 5.0}}
    assert trainer.iter == 2
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 1
    assert (tmp_path / "model_final_ema.pth").exists()
