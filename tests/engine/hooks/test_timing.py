import itertools

import pytest

from d2lite.engine import hooks
from tests.engine.hooks.trainers import make_trainer


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
