"""Downloading files into a cache: complete and verified, or not at all."""

import hashlib
import http.client
import logging
import os
import re
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit

from tqdm import tqdm

from d2lite.utils.errors import reason_of

logger = logging.getLogger(__name__)

# Files of this host are cached by path only, as in detectron2, so that weights already in its cache
# are found, even offline.
SHARED_CACHE_HOST = "dl.fbaipublicfiles.com"

SECONDS_WITHOUT_DATA = 30.0
SLOWEST = (60.0, 64 * 2**10)
"""(seconds, bytes): a download is stopped if fewer bytes arrive within this time."""
TRIES = 4
LARGEST = 64 * 2**30
"""Maximum bytes of a download: far more than any real file, to stop endless responses."""

_CHUNK = 2**20
# The convention of torch.hub, torchvision, timm and OpenMMLab: name-SHA256.pth, with at least 8
# digits of the hash. A date looks the same.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|pyth)(?:\.tar)?$")
_DATE = re.compile(r"(?:19|20)[0-9]{6}$")
_HTML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html|<head|<body)", re.IGNORECASE)
_HOST_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?")
_IPV6 = re.compile(r"[0-9a-f:.]+")


class DownloadError(OSError):
    """A file cannot be downloaded, or the received file is wrong."""


def cached_name(url: str) -> str:
    """Return the path below the cache folder at which the file of a URL is stored: HOST/PATH.

    Raises:
        DownloadError: the address has no file name, or has parts that lead to another folder
            (`..`, backslashes, encoded or not) or are not allowed in a file name.
    """
    try:
        parts = urlsplit(url)
        host = _host_folder(parts)
    except ValueError as error:
        raise DownloadError(f"{url!r} is not an address: {error}") from None
    decoded = parts.path
    for _ in range(8):  # a server may decode what was encoded twice
        decoded, before = unquote(decoded, errors="replace"), decoded
        if decoded == before:
            break
    names = decoded.split("/")
    if "\\" in decoded or any(name in (".", "..") for name in names):
        raise DownloadError(
            f"{url!r} is refused: its path leads out of its folder by '.', '..' or a backslash"
        )
    if not (decoded + parts.query).isprintable():
        raise DownloadError(f"{url!r} is refused: it has characters that cannot be printed")
    names = [name for name in parts.path.split("/") if name]
    if not names or parts.path.endswith("/"):
        raise DownloadError(f"{url!r} does not name a file: it ends in a folder")
    if parts.query:
        names[-1] += f"?{parts.query}"
    names = [_short_name(name) for name in names]
    if host != SHARED_CACHE_HOST:
        names = [host, *names]
    return os.path.join(*names)


def _host_folder(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not (_IPV6 if ":" in host else _HOST_NAME).fullmatch(host):
        raise ValueError(f"{parts.netloc!r} is not a host")
    if "@" in parts.netloc:
        raise ValueError("user names and passwords in addresses are not supported")
    if parts.port is None and "." not in parts.netloc:
        # Host 'detectron2' must not share a folder with the path /detectron2 of the shared host.
        return f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    return parts.netloc


def _short_name(name: str) -> str:
    """Return a file name, shortened if necessary and without slashes, for any file system."""
    if len(os.fsencode(name)) <= 200 and "/" not in name and "\\" not in name:
        return name
    stem = name.partition("?")[0].replace("\\", "_")
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:24]
    return f"{stem.encode()[:100].decode(errors='ignore')}_{digest}"


def download(url: str, path: str | Path) -> None:
    """Download a file, which appears at `path` when it is complete and checked.

    A broken connection is retried several times, and continued where it broke if the server
    supports that. A hash in the file name (`resnet50-0676ba61.pth`) is compared with the content.

    Raises:
        DownloadError: a timeout, a server error, a web page instead of a file, fewer bytes than
            announced, or a hash that does not match.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, partial)
        _require_hash(url, partial)
        os.replace(partial, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(
            f"Cannot download {url}: {reason_of(error)}. Check the address and the connection, or "
            f"download it elsewhere and put it at {path}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _fetch(url: str, partial: Path) -> None:
    known: dict[str, str] = {}  # "version": ETag of the file that the bytes so far belong to
    with open(partial, "wb") as file:
        for attempt in range(1, TRIES + 1):
            try:
                return _receive(url, file, known)
            except HTTPError as error:
                if error.code < 500 or attempt == TRIES:
                    raise
                problem = error
            except _WrongContent:
                raise
            except (OSError, http.client.HTTPException) as error:
                if attempt == TRIES or not (file.tell() or known):
                    raise  # nothing has arrived: the address or the connection is wrong
                problem = error
            logger.warning("%s: %s; trying again (%d of %d)", url, problem, attempt, TRIES - 1)
            time.sleep(min(2 ** (attempt - 1), 4) / 4)


class _WrongContent(OSError):
    """An error that a retry would not fix."""


def _receive(url: str, file: Any, known: dict[str, str]) -> None:
    """Write the response of one request to `file`, appending if the file version is the same."""
    headers = {"User-Agent": "d2lite", "Accept-Encoding": "identity"}
    start = file.tell()
    if start and known.get("version"):
        headers |= {"Range": f"bytes={start}-", "If-Range": known["version"]}
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler)
    with opener.open(request, timeout=SECONDS_WITHOUT_DATA) as answer:
        resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(
            f"bytes {start}-"
        )
        if not resumed:
            start = 0
            file.seek(0)
            file.truncate()
        etag = answer.headers.get("ETag") or ""
        known["version"] = "" if etag.startswith("W/") else etag
        if (answer.headers.get_content_type() or "") in ("text/html", "application/xhtml+xml"):
            raise _WrongContent("the server answered with a web page in place of the file")
        announced = answer.headers.get("Content-Length")
        rest = int(announced) if announced and announced.isdecimal() else None
        if (rest or 0) > LARGEST:
            raise _WrongContent(f"the file has {rest} bytes, more than the limit of {LARGEST}")
        _copy(answer, file, start, rest)


class _EndingHeaders:
    """A connection with a time limit for all response headers together."""

    def getresponse(self) -> http.client.HTTPResponse:
        watch = threading.Timer(SLOWEST[0], self.sock.shutdown, [socket.SHUT_RDWR])
        watch.daemon = True
        watch.start()
        try:
            return super().getresponse()
        finally:
            watch.cancel()


class _HttpConnection(_EndingHeaders, http.client.HTTPConnection):
    pass


class _HttpsConnection(_EndingHeaders, http.client.HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, request)


def _copy(answer: Any, file: Any, start: int, rest: int | None) -> None:
    total = None if rest is None else start + rest
    window_start, window_bytes = time.monotonic(), 0
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, leave=False) as progress:
        while chunk := answer.read1(_CHUNK):
            if file.tell() == 0 and _HTML.match(chunk[:512]):
                raise _WrongContent("the server answered with a web page in place of the file")
            file.write(chunk)
            progress.update(len(chunk))
            window_bytes += len(chunk)
            if file.tell() > LARGEST:
                raise _WrongContent(f"the file is larger than the limit of {LARGEST} bytes")
            if time.monotonic() - window_start > SLOWEST[0]:
                if window_bytes < SLOWEST[1]:
                    raise _WrongContent(
                        f"only {window_bytes} bytes arrived in {SLOWEST[0]:.0f} seconds"
                    )
                window_start, window_bytes = time.monotonic(), 0
    if total is not None and file.tell() != total:
        raise ConnectionError(f"only {file.tell()} of {total} bytes arrived")
    if file.tell() == 0:
        raise _WrongContent("the answer is empty")


def _require_hash(url: str, partial: Path) -> None:
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    match = _HASH_IN_NAME.search(name)
    if match is None:
        return
    digest = hashlib.sha256()
    with open(partial, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if not found.startswith(match[1]) and not _DATE.match(match[1]):
        raise _WrongContent(
            f"its SHA-256 hash starts with {found[: len(match[1])]}, but the name says {match[1]}"
        )
