"""Words of a command line before its overrides."""

import pytest

from d2lite.utils.arguments import split_overrides


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
