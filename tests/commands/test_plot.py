"""`d2lite plot`: pictures and text of runs."""

import json

import pytest

from d2lite import commands


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"iteration": i, "total_loss": 1 / (i + 1), "lr": 0.1} for i in range(4)]
    for name in ("a-1", "a-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_two_runs_are_drawn_into_one_picture(runs):
    commands.main(["plot", "runs/a-1", "runs/a-2", "--output", "both.png"])
    assert (runs / "both.png").stat().st_size > 5000


def test_picture_of_a_run_is_in_its_folder(runs, capsys):
    commands.main(["plot", "runs/a-1/metrics.json"])
    assert (runs / "runs/a-1/results.png").stat().st_size > 5000
    assert "runs/a-1/results.png" in capsys.readouterr().out


def test_curves_are_printed_as_text(runs, capsys):
    commands.main(["plot", "runs/a-2", "--terminal"])
    assert "a-2: total_loss" in capsys.readouterr().out
