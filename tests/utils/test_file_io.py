import functools
import http.server
import os
import tempfile
import threading

import pytest

from d2lite.utils import file_io
from d2lite.utils.file_io import PathManager, TextFileError, cache_folder, read_text


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A download cache of the test's own."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """Serves the folder `served`; gives its address and the list of requests."""
    (tmp_path / "served").mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()


def test_local_files(tmp_path):
    path = str(tmp_path / "a.txt")
    with PathManager.open(path, "w") as file:
        file.write("x")
    assert PathManager.isfile(path)
    assert PathManager.get_local_path(path) == path


def test_download_is_cached(tmp_path, cache, server):
    address, requests = server
    (tmp_path / "served" / "weights.bin").write_bytes(b"abc")
    path = PathManager.get_local_path(f"{address}/weights.bin")
    assert path.startswith(str(cache))
    with PathManager.open(f"{address}/weights.bin", "rb") as file:
        assert file.read() == b"abc"
    assert requests == ["/weights.bin"]


def test_missing_download_names_the_address_and_leaves_no_file(cache, server):
    address, _ = server
    with pytest.raises(OSError, match=rf"Cannot download {address}/none.bin.*404"):
        PathManager.get_local_path(f"{address}/none.bin")
    assert not [path for path in cache.rglob("none.bin*") if not path.name.endswith(".lock")]


def test_detectron2_address_is_found_in_the_cache_of_detectron2(cache):
    cached = cache / "detectron2" / "X" / "model.pkl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    assert PathManager.get_local_path("detectron2://X/model.pkl") == str(cached)
    with PathManager.open("detectron2://X/model.pkl", "rb") as file:
        assert file.read() == b"weights"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_whatever_marks_it_starts_with(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("K\u00e4tzchen\r\nb\r".encode(encoding))
    assert read_text(str(tmp_path / "a.txt")) == "K\u00e4tzchen\nb\n"


def test_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("K\u00e4tzchen".encode("latin-1"))
    with pytest.raises(TextFileError, match=r"a\.txt: not a text file in UTF-8 .* at byte 1"):
        read_text(str(tmp_path / "a.txt"))


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """A home whose cache cannot be made, and a folder of temporary files."""
    (tmp_path / "home").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    file_io._private_folder.cache_clear()
    yield tmp_path / "tmp"
    file_io._private_folder.cache_clear()


def test_cache_without_a_home_is_private(no_home, caplog):
    folder = cache_folder()
    assert os.path.dirname(folder) == str(no_home)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert "cannot be written" in caplog.text
    file_io._private_folder.cache_clear()
    assert cache_folder() == folder  # the next process finds it


@pytest.mark.parametrize("planted", ["open to all", "link", "file"])
def test_cache_that_somebody_else_has_put_there_is_not_used(no_home, planted):
    place = no_home / f"d2lite_cache_{os.getuid()}"
    if planted == "open to all":
        place.mkdir()
        place.chmod(0o777)
    elif planted == "link":
        (no_home / "theirs").mkdir(mode=0o700)
        place.symlink_to(no_home / "theirs")
    else:
        place.write_text("")
    folder = cache_folder()
    assert folder != str(place)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert cache_folder() == folder


def test_cache_of_another_user_is_not_used(no_home, monkeypatch):
    user = os.getuid() + 1
    place = no_home / f"d2lite_cache_{user}"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: user)
    assert cache_folder() != str(place)
