"""`d2lite configs` lists the zoo and shows what a config changes."""

import pytest

from d2lite import commands


def test_configs_lists_and_shows(capsys):
    commands.main(["configs", "quick_start"])
    assert capsys.readouterr().out == "quick_start\n"
    commands.main(["configs", "--show", "quick_start"])
    shown = capsys.readouterr().out
    assert "MAX_ITER: 450" in shown
    assert "GAMMA" not in shown  # as the defaults have it
    commands.main(["configs", "--show", "quick_start", "--full"])
    assert "GAMMA: 0.1" in capsys.readouterr().out


def test_python_config_is_shown_as_it_is(capsys):
    commands.main(["configs", "--show", "COCO-Detection/fcos_R_50_FPN_1x"])
    assert "from ..common.train import train" in capsys.readouterr().out


def test_words_without_a_config_are_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["configs", "xyz"])
    assert end.value.code == 1
    assert "no config in the zoo has xyz in its name" in capsys.readouterr().err
