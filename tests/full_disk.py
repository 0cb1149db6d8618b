"""A disk that is full, for tests."""

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def no_room(longest_file: int = 0) -> Iterator[None]:
    """No file can be written beyond a number of bytes.

    The system writes what fits and then refuses, as on a full disk, though with another number
    (EFBIG). Other processes are not concerned, and nobody has to be root.
    """
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
