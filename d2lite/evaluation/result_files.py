"""Result files for people and scripts; the metrics do not depend on them."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import IO

from d2lite.utils.writing import WriteError, atomic_write, naming_write_errors

logger = logging.getLogger(__name__)


def save_results(path: str, content: str | Callable[[IO[bytes]], object]) -> None:
    """Write a result file. If that fails, log why and continue with the evaluation.

    Args:
        path: its folder is created if necessary.
        content: text, or a function that writes to a given binary file.
    """
    with going_on_without(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with atomic_write(path) as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                content(file)


@contextlib.contextmanager
def going_on_without(path: str) -> Iterator[None]:
    """Log an error if the block can't write a file or folder, and continue."""
    try:
        with naming_write_errors(path):
            yield
    except WriteError as error:
        logger.error("%s. The evaluation continues without it", error)
