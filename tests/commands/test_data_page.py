"""The page of `d2lite data check`."""

import pytest

from d2lite import commands
from d2lite.data.layouts import write_folder
from tests.data.layouts.tiny import labeled


def test_page_escapes_names_and_shows_images_that_do_not_decode(tmp_path):
    ones = labeled(
        tmp_path, splits={"all": ["<b>&.png", "b.png"]}, names=("<script>", "cost $5 & $6")
    )
    write_folder(ones, str(tmp_path / "data"), "coco")
    (tmp_path / "data" / "images" / "b.png").write_bytes(b"none")
    with pytest.raises(SystemExit):
        commands.main(["data", "check", str(tmp_path / "data"), "--html", str(tmp_path / "p.html")])
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text and "<b>" not in text
    assert "not an image of a known format" in text


def test_page_of_data_without_objects_has_no_plots(tmp_path):
    write_folder(labeled(tmp_path, lambda i: []), str(tmp_path / "data"), "coco")
    commands.main(["data", "check", str(tmp_path / "data"), "--html", str(tmp_path / "p.html")])
    assert "image/png" not in (tmp_path / "p.html").read_text(encoding="utf-8")
