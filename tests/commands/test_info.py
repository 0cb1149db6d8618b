"""`d2lite info`: what a checkpoint says of itself."""

import torch

from d2lite import commands
from tests.engine.serving import mask_rcnn_run


def test_classes_and_config_of_a_run(tmp_path, capsys):
    commands.main(["info", "--weights", mask_rcnn_run(tmp_path)])
    shown = capsys.readouterr().out
    assert "6 thing_classes: circle, square" in shown
    assert "config, where it differs from the default:" in shown and "MASK_ON: true" in shown


def test_values_of_a_file_of_other_programs_are_counted(tmp_path, capsys):
    torch.save({"a": torch.zeros(500, 1000), "b": torch.zeros(500, 1000)}, tmp_path / "x.pth")
    commands.main(["info", "--weights", str(tmp_path / "x.pth")])
    shown = capsys.readouterr().out
    assert "weights: 2 tensors, 1.00 million values" in shown
    assert "neither a config nor class names" in shown
