"""What the command line tools share."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

__all__ = ["report_user_errors"]

# What d2lite raises for configs, data sets, weights and folders that are not as they should be.
USER_ERRORS = (KeyError, ValueError, AttributeError, AssertionError, ImportError, OSError)
TRACEBACK = "D2LITE_TRACEBACK"


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """End the program with the message of an error, and without the way to it.

    Set the environment variable D2LITE_TRACEBACK=1 to see the whole traceback.
    """
    try:
        yield
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK):
            raise
        logging.getLogger(__name__).debug("Traceback:", exc_info=True)
        # str(KeyError) is the quoted key; its argument is the message itself.
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
        print(f"(set {TRACEBACK}=1 to see where it was raised)", file=sys.stderr)
        sys.exit(1)
