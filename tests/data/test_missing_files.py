import logging

import pytest

from d2lite.data.missing_files import check_files_exist, missing_files


@pytest.fixture
def folder(tmp_path):
    """Twenty files, of which 3.jpg is absent."""
    for i in range(20):
        if i != 3:
            (tmp_path / f"{i}.jpg").write_text("")
    return tmp_path


@pytest.mark.parametrize("count", [5, 20])  # asked for one by one, and by a list of the folder
def test_missing_files_come_in_their_order_once(folder, count):
    paths = [str(folder / f"{i}.jpg") for i in range(count)]
    elsewhere = str(folder / "none" / "a.jpg")
    assert missing_files([elsewhere, *paths, paths[3]]) == [elsewhere, paths[3]]


def test_addresses_and_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = [f"{i}.jpg" for i in range(20)]
    assert missing_files(["https://example.org/a.jpg", *names]) == ["3.jpg"]
    assert missing_files([]) == []


def test_label_files_are_looked_at_too(folder):
    dicts = [{"file_name": str(folder / "1.jpg"), "sem_seg_file_name": str(folder / "1.png")}]
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 files \(sem_seg_file_name\) of city"):
        check_files_exist(dicts, ["city"])


def test_some_may_be_missing_but_not_all(folder, caplog):
    caplog.set_level(logging.WARNING)
    dicts = [{"file_name": str(folder / f"{i}.jpg")} for i in (3, 4)]
    check_files_exist(dicts, ["a", "b"], tolerant=True)
    assert "1 of the 2 files (file_name) of a, b do not exist" in caplog.text
    with pytest.raises(FileNotFoundError, match="1 of the 1 files"):
        check_files_exist(dicts[:1], ["a"], tolerant=True)
