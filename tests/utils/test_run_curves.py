"""Curves from the metrics of a run."""

import json

import pytest

from d2lite.utils.run_curves import read_curves


def test_metrics_of_a_run_that_is_being_written(tmp_path):
    rows = [{"iteration": i, "total_loss": 1.0 / (i + 1), "lr": 0.1} for i in range(3)]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metrics.json").write_text(f'{text}\n{{"iteration": 3, "tot')
    curves = read_curves(str(tmp_path))
    assert curves["total_loss"][0].tolist() == [0, 1, 2]
    (tmp_path / "metrics.json").write_text(f"nonsense\n{text}\n")
    with pytest.raises(ValueError, match=r"metrics\.json, line 1: expected a JSON object"):
        read_curves(str(tmp_path))
