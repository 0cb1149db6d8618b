"""When hooks are due, in a run of six iterations."""

from types import SimpleNamespace

import pytest

from d2lite.engine.hooks.due import at_last_iteration, is_due_before_last, is_due_or_last


def due(rule, *periods: int) -> list[int]:
    """Return the iterations after which the rule holds."""
    return [i for i in range(6) if rule(SimpleNamespace(iter=i, max_iter=6), *periods)]


@pytest.mark.parametrize(
    "periods, expected",
    [((2,), [1, 3, 5]), ((4,), [3, 5]), ((0,), [5]), ((), [5]), ((3, 4), [2, 3, 5])],
)
def test_due_or_last(periods, expected):
    assert due(is_due_or_last, *periods) == expected


@pytest.mark.parametrize("period, expected", [(2, [1, 3]), (4, [3]), (6, []), (0, [])])
def test_due_before_last(period, expected):
    assert due(is_due_before_last, period) == expected


def trainer(start_iter: int) -> SimpleNamespace:
    storage = SimpleNamespace(iter=start_iter)
    return SimpleNamespace(iter=start_iter, start_iter=start_iter, storage=storage)


def test_a_resumed_run_goes_back_by_one_iteration_for_a_while():
    resumed = trainer(4)
    with at_last_iteration(resumed) as exists:
        assert exists and (resumed.iter, resumed.storage.iter) == (3, 3)
    assert (resumed.iter, resumed.storage.iter) == (4, 4)


def test_the_iteration_comes_back_after_an_error():
    resumed = trainer(4)
    with pytest.raises(RuntimeError, match="in between"), at_last_iteration(resumed):
        raise RuntimeError("in between")
    assert (resumed.iter, resumed.storage.iter) == (4, 4)


def test_a_new_run_has_no_last_iteration():
    new = trainer(0)
    with at_last_iteration(new) as exists:
        assert not exists and (new.iter, new.storage.iter) == (0, 0)
