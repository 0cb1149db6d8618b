"""JSON files that are absent, cut off or not JSON."""

import pytest

from d2lite.utils.json_files import read_json


def test_values_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, null]}', encoding="utf-8")
    assert read_json(str(tmp_path / "a.json")) == {"a": [1, None]}


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a":\n [1, 2', r"a\.json: not valid JSON at line 2, column \d+ .* cut off"),
        ('{"a" 1, "b": 2}', r"a\.json: not valid JSON at line 1, column 6 .*delimiter$"),
        ("9" * 5000, r"a\.json: not valid JSON: "),
    ],
)
def test_faults_are_told_with_their_place(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_json(str(tmp_path / "a.json"))


def test_absent_files_and_folders_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="annotation file not found"):
        read_json(str(tmp_path / "a.json"))
    with pytest.raises(FileNotFoundError, match="is a folder; give the annotation file in it"):
        read_json(str(tmp_path))
