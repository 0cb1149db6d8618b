"""The program `d2lite`: its commands, their help, and that it starts without torch."""

import subprocess
import sys

import pytest

from d2lite import commands


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_fits_a_screen_and_begins_with_a_sentence_and_examples(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = commands.build_parser(name).format_help().splitlines()
    assert len(lines) <= 40
    usage_end = lines.index("")
    assert lines[usage_end + 1].endswith(".")
    assert sum(line.startswith(f"  d2lite {name} ") for line in lines) >= 2
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["predict", "-h"]])
def test_help_imports_neither_torch_nor_numpy(words):
    program = (
        "import sys; from d2lite.commands import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'numpy', 'yaml', 'cv2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_overview_names_all_commands(capsys):
    commands.main([])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in commands.COMMANDS)


def test_misspelled_command_gets_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["trian"])
    assert end.value.code == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err
