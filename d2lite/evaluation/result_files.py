"""Files of results, which people and scripts read and the metrics do not depend on."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import IO

from d2lite.utils.writing import WriteError, atomic_write, naming_write_errors

logger = logging.getLogger(__name__)


def save_results(path: str, content: str | Callable[[IO[bytes]], object]) -> None:
    """Write a file of results. Where that is not possible, log why and go on with the evaluation.

    Args:
        path: its folder is made where it does not exist.
        content: text, or a function that writes into the binary file that it is given.
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
    """Log that the block cannot write a file or folder, and go on."""
    try:
        with naming_write_errors(path):
            yield
    except WriteError as error:
        logger.error("%s. The evaluation goes on without it", error)
