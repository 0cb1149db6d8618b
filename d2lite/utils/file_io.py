"""One way to open files: local paths, `https://` and `detectron2://`, by iopath's PathManager.

Other schemes can be added with `PathManager.register_handler`.
"""

import codecs
import os
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

from iopath.common.file_io import HTTPURLHandler, PathHandler, get_cache_dir
from iopath.common.file_io import PathManager as PathManagerBase

__all__ = ["PathHandler", "PathManager", "read_text"]

PathManager = PathManagerBase()
"""The path manager of this package; `PathManager.open`, `.exists`, `.get_local_path`, ..."""

# Files of this host are cached by their path alone, as detectron2 does it, so that weights which
# are already in its cache are found, offline too.
_SHARED_CACHE_HOST = "dl.fbaipublicfiles.com"


class DownloadHandler(HTTPURLHandler):
    """Downloads `https://` files once, with a progress bar, into a cache folder.

    The cache is $FVCORE_CACHE, else ~/.torch/iopath_cache. A file appears there only when it is
    complete, and several processes can ask for it at once.
    """

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        host = urlparse(path).netloc
        cache_dir = get_cache_dir(cache_dir)
        if host != _SHARED_CACHE_HOST:
            cache_dir = os.path.join(cache_dir, host)
        try:
            return super()._get_local_path(path, force=force, cache_dir=cache_dir, **kwargs)
        except URLError as error:
            raise OSError(
                f"Cannot download {path}: {error}. Check the address and the connection, or "
                f"download it elsewhere and put it under {cache_dir}{urlparse(path).path}"
            ) from error


class Detectron2Handler(PathHandler):
    """Resolves `detectron2://`, the place of detectron2's released models, to a download."""

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path[len(self.PREFIX) :]
        return PathManager.get_local_path(self.S3_DETECTRON2_PREFIX + name, force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


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


def read_text(path: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    The locale plays no part. Editors and shells on Windows write such marks; they are not part of
    the text. Line ends become "\\n".

    Raises:
        ValueError: the file is in another encoding, or not a text file.
    """
    with PathManager.open(path, "rb") as file:
        content = file.read()
    marks = (e for mark, e in _BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding = next(marks, "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start}); save it as "
            "UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
