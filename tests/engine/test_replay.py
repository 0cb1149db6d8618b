"""Files of training steps, and which steps are bad."""

import math

import pytest
import torch
from torch import nn

from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.engine.replay import Replay, largest_gradients, read_step, save_step


def test_largest_gradients_by_hand():
    layers = nn.ModuleDict({name: nn.Linear(2, 1, bias=False) for name in "abcd"})
    for name, row in {"a": [1.0, -4.0], "b": [8.0, 2.0], "c": [math.nan, 0.0]}.items():
        layers[name].weight.grad = torch.tensor([row])
    (first, nan), *rest = largest_gradients(layers, scale=2.0)  # d has none
    assert first == "c.weight" and math.isnan(nan)
    assert rest == [("b.weight", 4.0), ("a.weight", 2.0)]


def test_no_gradients_have_no_largest():
    assert largest_gradients(nn.Linear(2, 1)) == []


@pytest.mark.parametrize(
    "replay, is_bad",
    [
        (Replay({"loss": 1.0}, [("a", 2.0)]), False),
        (Replay({"loss": math.nan}), True),
        (Replay({"loss": 1.0}, [("a", math.inf)]), True),
        (Replay({"loss": 1.0}, [("a", math.inf)], is_scaled=True), False),  # the scaler halves
        (Replay({"loss": 1.0}, error=FloatingPointError()), True),
    ],
)
def test_a_step_is_bad_if_anything_is_not_finite(replay, is_bad):
    assert replay.is_bad == is_bad


@pytest.mark.parametrize(
    "step, message",
    [
        ({"kind": "weights"}, r"not the file of a step; training writes them into OUTPUT_DIR/b"),
        ({"iteration": "3"}, r"is damaged: 'iteration' is not of type int"),
        ({"ranks": {0: {"batch": []}}}, r"is damaged: rank 0 lacks its batch"),
    ],
)
def test_other_files_are_refused(tmp_path, step, message):
    path = str(tmp_path / "step.pth")
    whole = {"iteration": 3, "message": "", "ranks": {}, "model": {}, "modules": {}}
    whole |= {"frozen": [], "optimizer": {}, "trainer": {}}
    save_step(path, whole)
    assert read_step(path)["iteration"] == 3
    save_step(path, {**whole, **step})
    with pytest.raises(CheckpointFileError, match=message):
        read_step(path)
