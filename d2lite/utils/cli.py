"""Error handling of the command line tools."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator

from d2lite.utils import comm
from d2lite.utils.errors import ProcessDiedError
from d2lite.utils.logger import FILE_ONLY
from d2lite.utils.printable import printable

# Errors that d2lite raises for invalid configs, datasets, weights and folders.
USER_ERRORS = (
    KeyError,
    ValueError,
    AttributeError,
    AssertionError,
    ImportError,
    OSError,
    FloatingPointError,
    ProcessDiedError,
)
TRACEBACK = "D2LITE_TRACEBACK"
_PATIENCE = 2.0  # seconds

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """End the program with the message of an error, without a traceback.

    The traceback is in log.txt if that is open; set the environment variable D2LITE_TRACEBACK=1 to
    see it on the terminal. Ctrl-C ends the program with exit status 130, as in shells (SIGTERM
    with 143: `d2lite.utils.stop_signals`).
    """
    try:
        yield
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK):
            raise
        logger.debug("The program ends with this error:", exc_info=True, extra=FILE_ONLY)
        if not comm.is_main_process():
            # Usually the main process fails too, and this one is ended before it prints the same.
            time.sleep(_PATIENCE)
        print(f"{_where()}{_describe(error)}", file=sys.stderr)
        print(f"(set {TRACEBACK}=1 to see where it was raised)", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        if os.environ.get(TRACEBACK):
            raise
        message = str(stop) or "Interrupted"
        logger.info(message, extra=FILE_ONLY)
        if comm.is_main_process():
            print(f"\n{message}", file=sys.stderr)
        sys.exit(130)


def _describe(error: BaseException) -> str:
    """Return the kind of the error and its message."""
    # str(KeyError) is the quoted key; its argument is the message itself.
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return printable(f"{type(error).__name__}: {message}")


def _where() -> str:
    """Return a text that names this process, if there are several."""
    return f"process {comm.get_rank()}: " if comm.get_world_size() > 1 else ""
