"""Readers for images that are not files: `SCHEME://...` instead of a file name.

`detection_utils.read_image` looks here first, so that a dataset can draw its images, or take
them from an archive, without a change to the loader. Code that opens files through `PathManager`
gets the same image as the bytes of a PNG file.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from iopath.common.file_io import PathHandler
from PIL import Image

from d2lite.utils.file_io import PathManager

_READERS: dict[str, Callable[[str], np.ndarray]] = {}


def register_image_scheme(scheme: str, reader: Callable[[str], np.ndarray]) -> None:
    """Let `reader` serve all image names that start with `scheme://`.

    Args:
        scheme: the part before `://`; must not be registered yet.
        reader: takes the whole name; returns (H, W, 3) uint8 in RGB order, or an (H, W) array for
            label images. Must give the same array for the same name, in every process.
    Raises:
        ValueError: the scheme is registered with another reader.
    """
    if _READERS.get(scheme, reader) is not reader:
        raise ValueError(f"image scheme {scheme!r} is registered already")
    if scheme not in _READERS:
        PathManager.register_handler(_ImagePathHandler(scheme), allow_override=True)
    _READERS[scheme] = reader


def find_image_reader(file_name: str) -> Callable[[str], np.ndarray] | None:
    """Return the reader for a name such as "shapes://train/12"; None for ordinary files."""
    scheme, separator, _ = str(file_name).partition("://")
    return _READERS.get(scheme) if separator else None


class _ImagePathHandler(PathHandler):
    """Handler by which `PathManager.open` reads the images of one scheme, as PNG files."""

    def __init__(self, scheme: str):
        super().__init__()
        self.prefix = f"{scheme}://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> io.BytesIO:
        if mode != "rb":
            raise ValueError(f"{path}: can only be opened with mode 'rb', not {mode!r}")
        reader = find_image_reader(path)
        if reader is None:
            raise FileNotFoundError(f"{path}: no reader is registered for {self.prefix}")
        content = io.BytesIO()
        Image.fromarray(reader(path)).save(content, "PNG", compress_level=1)
        content.seek(0)
        return content

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return find_image_reader(path) is not None

    _isfile = _exists
