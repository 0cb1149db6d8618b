"""Opening files from local paths, `https://` and `detectron2://`, with iopath's PathManager.

Other schemes can be added with `PathManager.register_handler`.
"""

import codecs
import functools
import getpass
import http.client
import logging
import os
import stat
import tempfile
import urllib.request
from typing import Any

from iopath.common.file_io import (
    NativePathHandler,
    PathHandler,
    PathManager as PathManagerBase,
    file_lock,
)

from d2lite.utils.downloads import cached_name, download

logger = logging.getLogger(__name__)

PathManager = PathManagerBase()
"""The path manager of this package; `PathManager.open`, `.exists`, `.get_local_path`, ..."""


class LocalFileHandler(NativePathHandler):
    """Handler of local files. It refuses pipes, devices and sockets, which could block."""

    def _open(self, path: str, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "r" in mode and not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise OSError(f"{path!r} is a pipe, device or socket; expected a file")
        return super()._open(path, mode, *args, **kwargs)


PathManager.register_handler(LocalFileHandler())


def cache_folder(folder: str | None = None) -> str:
    """Return the folder for downloads, and create it.

    It is $FVCORE_CACHE, or else ~/.torch/iopath_cache; if that cannot be written, a private folder
    in the temporary folder. Its files are loaded without further checks, so nobody else may write
    there.

    Args:
        folder: another one to use if it can be written.
    """
    folder = os.path.expanduser(folder or os.getenv("FVCORE_CACHE") or "~/.torch/iopath_cache")
    try:
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    private = _private_folder()
    logger.warning("%s cannot be written; downloads are stored in %s", folder, private)
    return private


@functools.cache
def _private_folder() -> str:
    """Return a folder in the temporary folder that only this user can read and write.

    An existing one with another owner, or accessible to others, could be an attack.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = os.path.join(tempfile.gettempdir(), f"d2lite_cache_{user}")
    try:
        os.mkdir(folder, mode=0o700)
    except FileExistsError:
        found = os.lstat(folder)
        owned = not hasattr(os, "getuid") or (found.st_uid == user and not found.st_mode & 0o077)
        if not (stat.S_ISDIR(found.st_mode) and owned):
            return tempfile.mkdtemp(prefix="d2lite_cache_")
    return folder


class DownloadHandler(PathHandler):
    """Handler that downloads `https://` files once, with a progress bar, into `cache_folder()`.

    A file appears there only when it is complete, and several processes can request it at once.
    No address leads out of that folder.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://", "ftp://"]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        name = cached_name(path)
        local = os.path.join(cache_folder(cache_dir), name)
        if force or not os.path.isfile(local):
            with file_lock(local):
                if force or not os.path.isfile(local):
                    logger.info("Downloading %s ...", path)
                    download(path, local)
                    logger.info("%s is stored as %s", path, local)
        return local

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        if mode not in ("r", "rb"):
            raise ValueError(f"{path} cannot be opened with mode {mode!r}: downloads are read-only")
        return open(self._get_local_path(path), mode, buffering)


class Detectron2Handler(PathHandler):
    """Handler that resolves `detectron2://`, detectron2's released models, to a download."""

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path[len(self.PREFIX) :]
        return PathManager.get_local_path(self.S3_DETECTRON2_PREFIX + name, force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


def is_available(url: str, seconds: float = 5.0) -> bool:
    """Return whether a file is in the cache, or its server answers within some seconds."""
    if os.path.isfile(os.path.join(cache_folder(), cached_name(url))):
        return True
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "d2lite"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


PathManager.register_handler(DownloadHandler())
PathManager.register_handler(Detectron2Handler())


# Longest first: the mark of UTF-32 starts with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class TextFileError(ValueError):
    """A file that is not text, or has an unknown encoding."""


def read_text(path: str, limit: int | None = None) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    The locale does not matter. Editors and shells on Windows write such marks; they are not part of
    the text. Line ends become "\\n".

    Raises:
        TextFileError: the file is in another encoding, or not a text file.
    """
    with PathManager.open(path, "rb") as file:
        content = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(content) > limit:
        raise TextFileError(f"{path} has more than {limit} bytes, too many for this kind of file")
    marks = (e for mark, e in _BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding = next(marks, "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextFileError(
            f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start}); save it as "
            "UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
