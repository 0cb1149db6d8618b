import json

import pytest

from d2lite.engine import hooks
from tests.engine.hooks.trainers import FakeCheckpointer, make_trainer


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


def test_periodic_checkpoints_end_with_the_final_one(tmp_path):
    checkpointer = FakeCheckpointer(tmp_path)
    make_trainer(hooks.PeriodicCheckpointer(checkpointer, 2)).train(0, 5)
    assert [(name, extra["iteration"]) for name, extra in checkpointer.saved] == [
        ("model_0000001", 1),
        ("model_0000003", 3),
        ("model_final", 4),
    ]
