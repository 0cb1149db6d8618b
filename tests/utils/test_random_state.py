"""States of the random generators, kept and brought back."""

import io
import random

import numpy as np
import pytest
import torch

from d2lite.utils.random_state import RandomState


def draw() -> tuple:
    """Return a number of each generator; normal ones, of which numpy and Python keep a second."""
    return random.gauss(0, 1), random.random(), np.random.normal(), torch.randn(1).item()


def through_a_file(state: RandomState) -> RandomState:
    file = io.BytesIO()
    torch.save(state.as_plain(), file)
    file.seek(0)
    return RandomState.from_plain(torch.load(file, weights_only=True))


@pytest.mark.parametrize("copy", [lambda state: state, through_a_file])
@pytest.mark.parametrize("drawn_before", [0, 1])
def test_the_same_numbers_follow_a_state(copy, drawn_before):
    before = RandomState.now()
    try:
        for _ in range(drawn_before):
            draw()
        state = copy(RandomState.now())
        expected = [draw() for _ in range(2)]
        assert [draw() for _ in range(2)] != expected
        state.restore()
        assert [draw() for _ in range(2)] == expected
    finally:
        before.restore()


def test_each_generator_is_brought_back_from_its_own_seed():
    before = RandomState.now()
    try:
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        state = RandomState.now()
        expected = draw()
        random.seed(4), np.random.seed(5), torch.manual_seed(6)
        assert not set(draw()) & set(expected)
        state.restore()
        assert draw() == expected
    finally:
        before.restore()


def test_a_state_of_the_cpu_has_none_of_a_gpu():
    state = RandomState.now(torch.device("cpu"))
    assert state.cuda is None
    state.restore(torch.device("cpu"))
    assert state.as_plain()["cuda"] is None
