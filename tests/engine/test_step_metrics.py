"""The losses of a step in the event storage, by hand; other ranks are made up."""

import pytest
import torch

from d2lite.engine.bad_steps import NonFiniteError
from d2lite.engine.step_metrics import put_metrics
from d2lite.utils import comm
from d2lite.utils.event_storage import EventStorage


def put(losses, data_time=0.5, prefix="") -> dict[str, tuple[float, int]]:
    storage = EventStorage()
    put_metrics(losses, data_time, 7, prefix, storage)
    return storage.latest()


def add_rank(monkeypatch, **values):
    """A second rank, with the values of the first one except for these."""
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, {**mine, **values}])


def test_losses_their_total_and_the_data_time():
    assert put({"a": torch.tensor(1.0), "b": torch.tensor([2.0])}, prefix="val_") == {
        "rank_data_time": (0.5, 7),
        "data_time": (0.5, 7),
        "val_total_loss": (3.0, 7),
        "a": (1.0, 7),
        "b": (2.0, 7),
    }


def test_a_single_loss_is_only_the_total():
    assert set(put({"a": torch.tensor(1.0)})) == {"rank_data_time", "data_time", "total_loss"}


def test_losses_are_means_over_ranks_and_the_data_time_is_the_longest(monkeypatch):
    add_rank(monkeypatch, a=5.0, data_time=2.0)
    got = {
        name: value
        for name, (value, _) in put({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}).items()
    }
    assert got == {"rank_data_time": 0.5, "data_time": 2.0, "a": 3.0, "b": 2.0, "total_loss": 5.0}


def test_other_processes_store_only_their_own_data_time(monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert put({"a": torch.tensor(1.0)}) == {"rank_data_time": (0.5, 7)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_on_another_rank_raises_here(monkeypatch, value):
    add_rank(monkeypatch, a=value)
    with pytest.raises(NonFiniteError, match="iteration 7 on rank 1: a ") as error:
        put({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    assert error.value.ranks == [1]


def test_sums_of_small_types_do_not_overflow_and_wide_types_keep_their_precision():
    half = torch.tensor(60000.0, dtype=torch.float16)
    assert put({"a": half, "b": half.clone()})["total_loss"][0] == pytest.approx(120000, rel=1e-3)
    assert put({"a": half, "b": torch.tensor(100_000)})["b"] == (100_000, 7)
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert put({"a": third, "b": torch.tensor(1)})["a"] == (1 / 3, 7)


def test_losses_keep_their_graph():
    loss = torch.tensor(1.0, requires_grad=True) * 2
    put({"a": loss})
    loss.backward()  # reading the value has not changed it
    assert loss.requires_grad
