"""Curves that are plotted after training."""

import json

from PIL import Image

from d2lite.engine import hooks
from tests.engine.hooks.trainers import make_trainer


def test_curves_are_drawn_when_training_ends(tmp_path):
    rows = [{"iteration": i, "total_loss": 1 / (i + 1)} for i in range(3)]
    (tmp_path / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer = make_trainer(hooks.PlotResults(str(tmp_path)))
    trainer.train(0, 1)
    with Image.open(tmp_path / "results.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 100


def test_a_run_without_metrics_ends_with_a_warning(tmp_path, caplog):
    trainer = make_trainer(hooks.PlotResults(str(tmp_path)))
    trainer.train(0, 1)
    assert f"{tmp_path / 'results.png'} is not drawn: " in caplog.text
    assert not list(tmp_path.iterdir())
