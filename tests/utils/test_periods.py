"""When something is due, by hand."""

import pytest

from d2lite.utils.events import EventStorage, is_time_to_draw
from d2lite.utils.periods import is_due, is_last


@pytest.mark.parametrize(
    "period, due",
    [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [2, 5]), (7, [6]), (8, []), (0, []), (-1, [])],
)
def test_a_period_ends_with_its_last_iteration(period, due):
    assert [i for i in range(7) if is_due(i, period)] == due


def test_the_last_iteration_is_one_before_the_end_and_all_after_it():
    assert [is_last(i, 4) for i in range(6)] == [False, False, False, True, True, True]


@pytest.mark.parametrize("period, drawn", [(3, [0, 3, 6]), (1, list(range(7))), (0, [])])
def test_pictures_are_drawn_from_the_first_iteration_on(period, drawn):
    found = []
    for iteration in range(7):
        with EventStorage(iteration):
            found += [iteration] * is_time_to_draw(period)
    assert found == drawn


def test_nothing_is_drawn_without_a_storage():
    assert not is_time_to_draw(1)
