"""The program `d2lite`: its commands, their help, and that it starts without torch."""

import subprocess
import sys

import pytest

from d2lite import commands
from d2lite.config import files
from d2lite.config.errors import ConfigFileError
from d2lite.utils.arguments import split_overrides


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


@pytest.mark.parametrize(
    "name, ending",
    [
        ("quick_start", "configs/quick_start.yaml"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
        ("COCO-Detection/fcos_R_50_FPN_1x", "COCO-Detection/fcos_R_50_FPN_1x.py"),
        ("faster_rcnn_R_50_FPN_3x", "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", "COCO-Detection/retinanet_R_50_FPN_1x.py"),
    ],
)
def test_configs_are_found_by_name(name, ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.find_config(name).replace("\\", "/").endswith(ending)


@pytest.mark.parametrize(
    "name, near",
    [
        ("quick_strat", "'quick_start'"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_1", "'COCO-Detection/faster_rcnn_R_50_FPN_1x'"),
        ("mask_rcnn_R_50_FPN_1x", ""),  # of several folders, so the folder has to be given
    ],
)
def test_unknown_config_gets_the_nearest(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigFileError, match=f"There is no config {name}.*{near}"):
        files.find_config(name)


def test_path_of_a_config_comes_before_the_zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick_start").write_text("SEED: 1\n")
    assert files.find_config("quick_start") == "quick_start"
    assert files.find_config("") == ""


def test_configs_lists_and_shows(capsys):
    commands.main(["configs", "quick_start"])
    assert capsys.readouterr().out == "quick_start\n"
    commands.main(["configs", "--show", "quick_start"])
    shown = capsys.readouterr().out
    assert "MAX_ITER: 450" in shown
    assert "GAMMA" not in shown  # as the defaults have it
    commands.main(["configs", "--show", "quick_start", "--full"])
    assert "GAMMA: 0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, before",
    [
        (["a.jpg", "b.jpg", "MODEL.DEVICE", "cpu"], 2),
        (["a.jpg", "SEED", "3"], 1),
        (["PHOTO.JPG"], 1),
        (["IMG_0001.JPG", "OUTPUT_DIR", "x"], 1),
        ([], 0),
    ],
)
def test_overrides_begin_at_the_first_key(words, before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTO.JPG").write_bytes(b"")
    (tmp_path / "IMG_0001.JPG").write_bytes(b"")
    assert split_overrides(words) == (words[:before], words[before:])
