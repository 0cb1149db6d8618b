"""Readers for images that are no files: `SCHEME://...` in place of a file name.

`detection_utils.read_image` and the readers of label images ask here first, so that a data set
can draw its images, or fetch them from an archive, without touching the loader.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["find_image_reader", "register_image_scheme"]

_READERS: dict[str, Callable[[str], np.ndarray]] = {}


def register_image_scheme(scheme: str, reader: Callable[[str], np.ndarray]) -> None:
    """Let `reader` serve all image names that start with `scheme://`.

    Args:
        scheme: the part before `://`; must be new.
        reader: takes the whole name; returns (H, W, 3) uint8 in RGB order, or an (H, W) array for
            label images. Must give the same array for the same name, in every process.
    Raises:
        ValueError: the scheme is taken.
    """
    if _READERS.get(scheme, reader) is not reader:
        raise ValueError(f"image scheme {scheme!r} is registered already")
    _READERS[scheme] = reader


def find_image_reader(file_name: str) -> Callable[[str], np.ndarray] | None:
    """The reader for a name such as "shapes://train/12"; None for ordinary files."""
    scheme, separator, _ = str(file_name).partition("://")
    return _READERS.get(scheme) if separator else None
