import functools
import http.server
import threading

import pytest

from d2lite.utils.file_io import PathManager, TextFileError, read_text


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
