"""`d2lite report`: one page with everything."""

import json
import re

import pytest

from d2lite import commands
from tests.commands.reports import CLASSES, GOOD, make_run, write_dataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path)
    return tmp_path


def data_of(path) -> dict:
    match = re.search(r"^const D = (.*);$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return json.loads(match[1])


def test_page_is_one_file_with_everything(folder, capsys):
    make_run(folder, "a", GOOD)
    commands.main(["report", "a"])
    assert "Wrote a/report.html" in capsys.readouterr().out
    text = (folder / "a/report.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 1  # the class name does not end it
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|fetch\(|XMLHttp""", text)
    data = data_of(folder / "a/report.html")
    (run,) = data["runs"]
    assert data["classes"] == CLASSES
    assert run["ap"]["bbox"]["all classes"]["AP"] == pytest.approx(100)
    assert run["objects"] == [2, 1]
    assert ["SOLVER.IMS_PER_BATCH", "8", "16"] in run["config"]
    assert "Python  3.11" in run["environment"]
    assert run["curves"]["images per second"]["images per second"][1] == [16.0] * 5
    assert [image["width"] for image in data["images"]] == [360] * 3
    assert data["images"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert {k: n for k, n, _ in run["errors"]}["correct"] == 3


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "nowhere is not the folder of a run: it has no config.yaml"),
        (["a", "a", "a"], "a report shows one or two runs; got 3"),
        (["a", "--dataset", "coco:x"], "--dataset coco:x is not among DATASETS.TEST of a"),
    ],
)
def test_mistakes_are_one_line(folder, words, message, capsys):
    make_run(folder, "a", GOOD)
    with pytest.raises(SystemExit):
        commands.main(["report", *words])
    assert message in capsys.readouterr().err.splitlines()[0]
