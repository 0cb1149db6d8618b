"""Predictions of several processes, which are made up."""

import pytest
import torch

from d2lite.evaluation.gather import gather_predictions, save_predictions
from d2lite.utils import comm


@pytest.fixture
def calls(monkeypatch):
    """Three processes; returns the list of calls that wait for the others."""
    calls = []
    monkeypatch.setattr(comm, "synchronize", lambda: calls.append("synchronize"))
    others = [["c"], []]
    monkeypatch.setattr(
        comm, "gather", lambda mine, dst: (calls.append(f"gather {dst}"), [mine, *others])[1]
    )
    return calls


def test_predictions_come_together_in_the_order_of_the_processes(calls):
    assert gather_predictions(["a", "b"], distributed=True) == ["a", "b", "c"]
    assert calls == ["synchronize", "gather 0"]


def test_other_processes_get_nothing(calls, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert gather_predictions(["a"], distributed=True) is None
    assert calls == ["synchronize", "gather 0"]  # they take part all the same


def test_processes_on_their_own_wait_for_nobody(calls):
    predictions = ["a"]
    assert gather_predictions(predictions, distributed=False) is predictions
    assert not calls


def test_saved_predictions_come_back(tmp_path):
    save_predictions([{"image_id": 3, "boxes": torch.ones(2)}], str(tmp_path))
    (saved,) = torch.load(tmp_path / "instances_predictions.pth", weights_only=True)
    assert saved["image_id"] == 3 and saved["boxes"].tolist() == [1, 1]
