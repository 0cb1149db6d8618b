"""`d2lite data`: what its actions print and write."""

import argparse
import re

import pytest

from d2lite import commands
from d2lite.commands import data
from d2lite.data.layouts import LAYOUTS, read_folder, write_folder
from tests.data.layouts.tiny import labeled, thing


@pytest.fixture
def folder(tmp_path):
    names = {"train": [f"{i}.png" for i in range(8)], "val": [f"v{i}.png" for i in range(4)]}
    write_folder(labeled(tmp_path, splits=names), str(tmp_path / "data"), "voc")
    return str(tmp_path / "data")


@pytest.mark.parametrize("action", data.ACTIONS)
def test_help_of_an_action_fits_a_screen(action, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        commands.main(["data", action, "--help"])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert len(lines) <= 44 and max(map(len, lines)) <= 100
    assert lines[0].startswith(f"usage: d2lite data {action} ")
    assert lines[lines.index("") + 1].endswith(".")
    assert shown.count(f"\n  d2lite data {action} ") == 2


def test_names_of_layouts_are_those_of_the_table():
    assert list(data.LAYOUT_NAMES) == list(LAYOUTS)


def test_check_prints_and_exits_with_0_for_good_data(folder, capsys):
    commands.main(["data", "check", folder])
    shown = capsys.readouterr().out
    assert "Pascal VOC" in shown and "0 errors" in shown
    assert re.search(r"train +8 +0 +16", shown) and re.search(r"cat +8 +4 +12 +50.0%", shown)


def test_check_exits_with_1_for_errors_and_writes_one_page(folder, tmp_path, capsys):
    copy = read_folder(folder).splits
    with open(copy["train"][0]["file_name"], "rb") as source:
        content = source.read()
    with open(copy["val"][0]["file_name"], "wb") as target:
        target.write(content)
    page = tmp_path / "pages" / "check.html"
    with pytest.raises(SystemExit) as end:
        commands.main(["data", "check", folder, "--html", str(page), "--num", "3"])
    assert end.value.code == 1
    assert "error: leaks, the same file in train and val: 1" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 3 + 2  # drawn, and those of the leak
    assert text.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)='?\"?(?!data:)[^'\"]*\.(png|jpg|css|js)", text)
    assert "leaks, the same file" in text


def test_convert_says_what_is_lost(tmp_path, capsys):
    square = [8.0, 8.0, 28.0, 8.0, 28.0, 32.0, 8.0, 32.0]
    ones = labeled(tmp_path, lambda i: [thing(0, segmentation=[square])])
    write_folder(ones, str(tmp_path / "a"), "coco")
    commands.main(["data", "convert", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "csv"])
    shown = capsys.readouterr().out
    assert "Wrote 4 train, 2 val images as CSV" in shown
    lost = "lost, because the layout cannot store them: 5 objects without their outlines"
    assert lost in shown
    assert read_folder(str(tmp_path / "b")).layout == "csv"


def test_convert_to_an_unknown_layout(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["data", "convert", folder, str(tmp_path / "b"), "--to", "yola"])
    assert end.value.code == 1
    assert "there is no layout 'yola'. Did you mean 'yolo'" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_split_gives_up_old_splits_and_keeps_the_layout(folder, tmp_path, capsys):
    words = ["data", "split", folder, str(tmp_path / "b"), "--val", "0.25", "--test", "0.25"]
    commands.main([*words, "--link"])
    assert "Wrote 6 train, 3 val, 3 test images as Pascal VOC" in capsys.readouterr().out
    found = read_folder(str(tmp_path / "b"))
    assert {s: len(records) for s, records in found.splits.items()} == {
        "train": 6,
        "val": 3,
        "test": 3,
    }


@pytest.mark.parametrize("shares", [("0", "0.1"), ("0.5", "0.5"), ("0.2", "-0.1"), ("2", "0")])
def test_shares_that_leave_nothing(folder, tmp_path, shares, capsys):
    words = ["data", "split", folder, str(tmp_path / "b"), f"--val={shares[0]}"]
    with pytest.raises(SystemExit):
        commands.main([*words, f"--test={shares[1]}"])
    assert "expected fractions of the images" in capsys.readouterr().err


def test_show_draws_evenly_over_the_images(folder, tmp_path, capsys):
    words = ["data", "show", folder, "--num", "2", "--output", str(tmp_path / "seen")]
    commands.main([*words, "--split", "val"])
    assert "Read 4 images; drew 2" in capsys.readouterr().out
    assert [p.name for p in sorted((tmp_path / "seen").iterdir())] == [
        "00000_v0.jpg",
        "00001_v2.jpg",
    ]
    with pytest.raises(SystemExit):
        commands.main([*words, "--split", "test"])
    assert "there is no split 'test'; it has train, val" in capsys.readouterr().err


def test_anchors_are_printed_as_settings(folder, tmp_path, capsys):
    words = ["data", "anchors", folder, "--formats", "rpn,yolo", "--levels", "1", "--num", "2"]
    commands.main([*words, "--plot", str(tmp_path / "a.png")])
    shown = capsys.readouterr().out
    assert "16 boxes in 8 images (train)" in shown
    assert "ANCHOR_GENERATOR" in shown and "anchors = " in shown
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "words, message",
    [
        (["--formats", "rpm"], "'rpm' is not one of rpn, ssd, yolo. Did you mean 'rpn'"),
        (["--levels", "0"], "--levels must be at least 1"),
    ],
)
def test_bad_arguments_of_anchors(folder, words, message, capsys):
    with pytest.raises(SystemExit):
        commands.main(["data", "anchors", folder, *words])
    assert message in capsys.readouterr().err


def test_action_is_required(capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["data"])
    assert end.value.code == 2
    assert "ACTION" in capsys.readouterr().err


def test_spread_takes_from_the_whole():
    records = [{"image_id": i} for i in range(10)]
    assert [r["image_id"] for r in data.spread(records, 3)] == [0, 3, 6]
    assert data.spread(records, 0) == data.spread(records, 99) == records


def test_parser_has_every_action():
    parser = commands.build_parser("data")
    assert isinstance(parser, argparse.ArgumentParser)
    for action in data.ACTIONS:
        words = [action, "p"] + (["o"] if action in ("convert", "split") else [])
        args = parser.parse_args([*words, *(["--to", "coco"] if action == "convert" else [])])
        assert (args.action, args.path) == (action, "p")
