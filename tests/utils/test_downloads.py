import hashlib
import http.server
import threading
import time

import pytest

from d2lite.utils import downloads
from d2lite.utils.downloads import DownloadError, cached_name, download
from d2lite.utils.file_io import PathManager

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def server():
    """Answers as the test's function of (handler, number of the request) says."""
    answers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        count = 0

        def do_GET(self):
            Handler.count += 1
            answers[0](self, Handler.count)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", answers.append
        running.shutdown()


def respond(handler, content=CONTENT, status=200, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://dl.fbaipublicfiles.com/detectron2/X/model.pkl", "detectron2/X/model.pkl"),
        ("https://a.org/b/c.pth", "a.org/b/c.pth"),
        ("https://a.org//b///c.pth", "a.org/b/c.pth"),
        ("https://a.org:81/c.pth?download=1#part", "a.org:81/c.pth?download=1"),
        ("http://detectron2/X/model.pkl", "detectron2:80/X/model.pkl"),
        ("http://[::1]:80/c.pth", "[::1]:80/c.pth"),
    ],
)
def test_place_in_the_cache(url, name):
    assert cached_name(url) == name


@pytest.mark.parametrize(
    "path",
    [
        "/../../../.local/lib/evil.pth",
        "/a/../../b.pth",
        "/%2e%2e/%2E%2E/b.pth",
        "/%252e%252e/b.pth",
        "/a/..%2f..%2fb.pth",
        "/..\\..\\b.pth",
        "/a%5c..%5cb.pth",
        "/..",
        "/a/./b",
        "/a%00b.pth",
        "/a%1b[2Jb.pth",
        "/a/",
        "",
    ],
)
@pytest.mark.parametrize("prefix", ["http://127.0.0.1:9", "https://dl.fbaipublicfiles.com"])
def test_addresses_that_lead_elsewhere_are_refused(path, prefix, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DownloadError):
        PathManager.get_local_path(prefix + path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "url", ["http://../b.pth", "http://./b", "http:///etc/passwd", "http://u:p@h/b", "http://[x/b"]
)
def test_hosts_that_are_none_are_refused(url):
    with pytest.raises(DownloadError):
        cached_name(url)


def test_long_names_and_queries_with_slashes_stay_one_file():
    names = [cached_name(f"http://a.org/{'x' * 300}{i}.pth?q=/../../{i}") for i in (1, 2)]
    assert names[0] != names[1]
    assert all(name.count("/") == 1 and len(name) < 200 for name in names)


def test_detectron2_scheme_leads_nowhere_else():
    with pytest.raises(DownloadError, match="refused"):
        PathManager.get_local_path("detectron2://../../evil.pth")


@pytest.mark.parametrize("resumable", [True, False], ids=["resumable", "from the start"])
def test_broken_connection_is_taken_up_again(server, tmp_path, resumable):
    url, answer = server

    def breaks_once(handler, count):
        if count == 1:
            respond(handler, CONTENT[:700], length=len(CONTENT), ETag='"1"')
        elif resumable:
            assert handler.headers["Range"] == "bytes=700-"
            rest = f"bytes 700-{len(CONTENT) - 1}/{len(CONTENT)}"
            respond(handler, CONTENT[700:], 206, Content_Range=rest, ETag='"1"')
        else:
            respond(handler, ETag='"2"')

    answer(breaks_once)
    download(f"{url}/a.pth", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


WRONG = {
    "short": ("only 700 of 2048", lambda h, n: respond(h, CONTENT[:700], length=len(CONTENT))),
    "page": ("web page", lambda h, n: respond(h, b" \n<!DOCTYPE html><html>Log in</html>")),
    "page by type": ("web page", lambda h, n: respond(h, Content_Type="text/html; charset=x")),
    "empty": ("empty", lambda h, n: respond(h, b"")),
    "endless": ("more than the limit", lambda h, n: respond(h, length=10**15)),
    "no HTTP": ("", lambda h, n: h.wfile.write(b"\0\1\2\r\n\r\n")),
    "not there": ("404", lambda h, n: respond(h, status=404)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answers_leave_no_file(server, tmp_path, case, monkeypatch):
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    url, answer = server
    message, respond_wrongly = WRONG[case]
    answer(respond_wrongly)
    with pytest.raises(DownloadError, match=f"Cannot download {url}/a.pth: .*{message}"):
        download(f"{url}/a.pth", tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_hash_in_the_name_is_compared(server, tmp_path):
    url, answer = server
    answer(lambda handler, count: respond(handler))
    digest = hashlib.sha256(CONTENT).hexdigest()
    for name in (f"a-{digest[:8]}.pth", "a-20200130.pth", "model_final_280758.pkl"):
        download(f"{url}/{name}", tmp_path / name)
    with pytest.raises(DownloadError, match=f"starts with {digest[:8]}, but the name"):
        download(f"{url}/a-0123abcd.pth", tmp_path / "a")


def test_server_without_an_answer_is_given_up(server, tmp_path, monkeypatch):
    url, answer = server
    done = threading.Event()
    answer(lambda handler, count: done.wait(5))
    monkeypatch.setattr(downloads, "SECONDS_WITHOUT_DATA", 0.1)
    with pytest.raises(DownloadError, match="timed out"):
        download(f"{url}/a.pth", tmp_path / "a.pth")
    done.set()


def test_trickle_is_given_up(server, tmp_path, monkeypatch):
    url, answer = server
    monkeypatch.setattr(downloads, "SLOWEST", (0.05, 1000))

    def trickle(handler, count):
        respond(handler, b"", length=100)
        for _ in range(100):
            handler.wfile.write(b"x")
            downloads.time.sleep(0.02)

    answer(trickle)
    with pytest.raises(DownloadError, match=r"only \d+ bytes arrived in"):
        download(f"{url}/a.pth", tmp_path / "a.pth")


def test_headers_without_end_are_given_up(server, tmp_path, monkeypatch):
    url, answer = server
    monkeypatch.setattr(downloads, "SLOWEST", (0.2, 1))

    def trickle(handler, count):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    answer(trickle)
    start = time.monotonic()
    with pytest.raises(DownloadError):
        download(f"{url}/a.pth", tmp_path / "a.pth")
    assert time.monotonic() - start < 1.9  # before the server ends it
