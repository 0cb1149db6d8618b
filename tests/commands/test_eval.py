"""`d2lite eval` on the weights of a run."""

from d2lite import commands
from tests.commands.tiny import write_config


def test_eval_takes_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path)
    commands.main(["train", "--config", config])
    commands.main(["eval", "--weights", "runs/train-1", "DATASETS.TEST", "('shapes_val',)"])
    assert (tmp_path / "runs/eval-1/inference").is_dir()
