import errno
import os
import pickle
import re
import shutil

import pytest
import torch

from d2lite.utils import writing
from d2lite.utils.writing import WriteError, append, atomic_write, naming_write_errors
from tests.full_disk import no_room


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode, old, new", [("w", "old", "n" * 5000), ("wb", b"old", b"n" * 5000)])
def test_full_disk_leaves_the_old_file_and_tells_path_need_and_room(tmp_path, mode, old, new):
    path = tmp_path / "file"
    with atomic_write(path, mode) as file:
        file.write(old)
    with pytest.raises(WriteError) as caught, no_room(1000), atomic_write(path, mode) as file:
        file.write(new)
    folder = re.escape(str(tmp_path))
    assert re.fullmatch(
        rf"{folder}/file cannot be written: File too large \(it needs 4\.9 KiB, and {folder} has "
        r"[\d.]+ \w+ free\)",
        str(caught.value),
    )
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_full_disk_within_torch_save_is_no_riddle(tmp_path):
    path = tmp_path / "file.pth"
    told = pytest.raises(WriteError, match=r"file\.pth cannot be written")
    with told, no_room(4000), atomic_write(path, needed=80_000) as file:
        torch.save({"weight": torch.zeros(20_000)}, file)
    assert names(tmp_path) == []


def test_vanished_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    told = pytest.raises(WriteError, match=rf"there is no folder {folder}$")
    with told, atomic_write(folder / "file", "w") as file:
        file.write("x")
        file.flush()
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "number, reason",
    [
        (errno.EROFS, r"Read-only file system$"),
        (errno.EDQUOT, r"Disk quota exceeded \(it needs 3 bytes, and .* free\)$"),
        (errno.ENOSPC, r"No space left on device \(it needs 3 bytes, and .* free\)$"),
        (errno.EIO, r"Input/output error$"),
    ],
)
def test_reasons_of_the_system(tmp_path, monkeypatch, number, reason):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, "fsync", fail)
    with pytest.raises(WriteError, match=reason), atomic_write(tmp_path / "file") as file:
        file.write(b"abc")
    assert names(tmp_path) == []


def test_disk_without_inodes(tmp_path, monkeypatch):
    state = os.statvfs(tmp_path)
    values = {
        name: getattr(state, name) for name in ("f_bavail", "f_frsize", "f_blocks", "f_bfree")
    }
    empty = type("State", (), {**values, "f_files": 10, "f_favail": 0})
    monkeypatch.setattr(writing.os, "statvfs", lambda _: empty)
    error = WriteError(tmp_path / "file", OSError(errno.ENOSPC, "No space left on device"))
    assert "No inode is left" in str(error)


def test_an_error_of_the_content_is_not_one_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "file"):
        (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_append_adds_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "file"
    append(path, b"one\n")
    with pytest.raises(WriteError, match=r"it needs 4\.9 KiB"), no_room(100):
        append(path, b"t" * 5000)
    assert path.read_bytes() == b"one\n"
    append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_errors_travel_between_processes_and_keep_their_name(tmp_path):
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    told = pytest.raises(WriteError)
    with told as caught, naming_write_errors(outer), naming_write_errors(inner):
        raise PermissionError(errno.EACCES, "Permission denied")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) == f"{inner} cannot be written: Permission denied"
    assert (type(copy), copy.errno, copy.filename) == (WriteError, errno.EACCES, str(inner))


def test_writers_of_several_processes_do_not_write_into_each_other(tmp_path, monkeypatch):
    path = tmp_path / "shared.json"
    with atomic_write(path, "w", together=True) as first:
        first.write("first, and long")
        first.flush()
        monkeypatch.setattr(os, "getpid", lambda: -1)  # another process
        with atomic_write(path, "w", together=True) as second:
            second.write("second")
        assert path.read_text(encoding="utf-8") == "second"
    assert path.read_text(encoding="utf-8") == "first, and long"
    assert list(tmp_path.iterdir()) == [path]
