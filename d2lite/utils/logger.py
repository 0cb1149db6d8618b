"""Logging to the terminal and to a file per process, and tables for log messages."""

import atexit
import contextlib
import functools
import logging
import os
import sys
import time
from collections import Counter
from typing import IO, Any

from tabulate import tabulate
from termcolor import colored
from tqdm import tqdm

from d2lite.utils.file_io import PathManager
from d2lite.utils.printable import printable
from d2lite.utils.writing import WriteError, naming_write_errors

D2_LOG_BUFFER_SIZE_KEY: str = "D2_LOG_BUFFER_SIZE"
"""Environment variable with the size in bytes of the log file's buffer on remote storage."""

DEFAULT_LOG_BUFFER_SIZE: int = 1024 * 1024

FILE_ONLY: dict[str, bool] = {"file_only": True}
"""As `extra` of a log call: the line goes to the log file and not to the terminal."""

_DATE_FORMAT = "%m/%d %H:%M:%S"
_PLAIN_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


class _AbbreviatingFormatter(logging.Formatter):
    """Formatter that abbreviates the logger name `root`, and escapes control characters."""

    def __init__(self, fmt: str, root: str, abbreviation: str):
        super().__init__(fmt, datefmt=_DATE_FORMAT)
        self.root, self.abbreviation = root, abbreviation

    def format(self, record: logging.LogRecord) -> str:
        full_name = record.name
        if full_name == self.root or full_name.startswith(self.root + "."):
            record.name = self.abbreviation + full_name[len(self.root) :]
        try:
            return printable(super().format(record))
        finally:
            record.name = full_name  # other handlers see the same record


class _ColorfulFormatter(_AbbreviatingFormatter):
    """Formatter that colors the level of warnings and errors."""

    COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        color = self.COLORS.get(record.levelno)
        if color is None:
            return line
        return f"{colored(record.levelname, color, attrs=['bold'], force_color=True)} {line}"


class _TerminalHandler(logging.Handler):
    """Handler that prints above a live progress bar, if there is one.

    It looks up sys.stdout for every line, so that redirections take effect.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


class _FileHandler(logging.StreamHandler):
    """Handler that reports once on the terminal if the file cannot be written, and continues.

    Python's handlers print a traceback for every line.
    """

    _is_failing = False

    def __init__(self, stream: IO[str], path: str):
        super().__init__(stream)
        self.log_path = path

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        self._is_failing = self._failed

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed = True
        if not self._is_failing:
            with contextlib.suppress(OSError):  # it may be a file on the same disk
                sys.stderr.write(f"{WriteError(self.log_path, error)}; logging continues\n")


def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "d2lite",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Make the logger `name` write to the terminal and a file. Repeated calls add nothing twice.

    Args:
        output: folder for `log.txt`, or a file name that ends in .txt or .log; None: no file.
            Processes other than 0 append `.rank1` and so on to the name.
        distributed_rank: index of this process; only process 0 writes to the terminal.
        color: whether to color levels and times if the terminal supports it.
        abbrev_name: short form of `name` in the lines; "d2" for "d2lite" by default.
        enable_propagation: also pass lines on to the parent logger.
        configure_stdout: whether to write to the terminal at all.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    if abbrev_name is None:
        abbrev_name = "d2" if name == "d2lite" else name
    if configure_stdout and distributed_rank == 0 and not _has(logger, _TerminalHandler):
        handler = _TerminalHandler(logging.DEBUG)
        if color and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            prefix = colored("[%(asctime)s %(name)s]: ", "green", force_color=True)
            formatter = _ColorfulFormatter(prefix + "%(message)s", name, abbrev_name)
        else:
            formatter = _AbbreviatingFormatter(_PLAIN_FORMAT, name, abbrev_name)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        if distributed_rank > 0:
            path += f".rank{distributed_rank}"
        if not any(getattr(handler, "log_path", None) == path for handler in logger.handlers):
            with naming_write_errors(path):
                if folder := os.path.dirname(path):
                    PathManager.mkdirs(folder)
                stream = _open_log_stream(path)
            handler = _FileHandler(stream, path)
            handler.setFormatter(_AbbreviatingFormatter(_PLAIN_FORMAT, name, abbrev_name))
            logger.addHandler(handler)
    return logger


def _has(logger: logging.Logger, kind: type) -> bool:
    return any(isinstance(handler, kind) for handler in logger.handlers)


@functools.cache  # loggers of several names share one file
def _open_log_stream(path: str) -> IO[str]:
    # Local files are line buffered; remote ones are too slow for that.
    is_remote = "://" in path
    remote_size = int(os.environ.get(D2_LOG_BUFFER_SIZE_KEY, DEFAULT_LOG_BUFFER_SIZE))
    buffering = remote_size if is_remote else 1
    stream = PathManager.open(path, "a", buffering=buffering, encoding="utf-8")
    atexit.register(_close, stream)
    return stream


def _close(stream: IO[str]) -> None:
    with contextlib.suppress(OSError):  # lines that could not be written were already reported
        stream.close()


def _find_caller() -> tuple[str, tuple[str, int, str]]:
    """Return the module that called into this file, and a key of the calling line."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename != __file__:
            module = frame.f_globals.get("__name__", "__main__")
            # Lines of a script are logged under this package, whose handlers are set up.
            module = "d2lite" if module == "__main__" else module
            return module, (code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    raise AssertionError("unreachable: some frame is outside of this file")


_LOG_COUNTER: Counter = Counter()
_LOG_TIMER: dict[Any, float] = {}


def log_first_n(
    lvl: int,
    msg: str,
    n: int = 1,
    *,
    name: str | None = None,
    key: str | tuple[str, ...] = "caller",
) -> None:
    """Log only the first `n` times.

    Args:
        lvl: level, such as logging.WARNING.
        name: of the logger; the calling module's by default.
        key: what counts as the same: "caller" (the line of code), "message", or a tuple of both.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    unknown = set(keys) - {"caller", "message"}
    if unknown:
        raise ValueError(f"key is {key!r}; use 'caller', 'message' or a tuple of both")
    caller_module, caller_key = _find_caller()
    counted = tuple({"caller": caller_key, "message": msg}[k] for k in keys)
    _LOG_COUNTER[counted] += 1
    if _LOG_COUNTER[counted] <= n:
        logging.getLogger(name or caller_module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the 1st, (n+1)-th, (2n+1)-th ... time that this line is reached."""
    caller_module, key = _find_caller()
    _LOG_COUNTER[key] += 1
    if n == 1 or _LOG_COUNTER[key] % n == 1:
        logging.getLogger(name or caller_module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log unless this line logged less than `n` seconds ago."""
    caller_module, key = _find_caller()
    now = time.monotonic()
    if key not in _LOG_TIMER or now - _LOG_TIMER[key] >= n:
        logging.getLogger(name or caller_module).log(lvl, msg)
        _LOG_TIMER[key] = now


def create_small_table(small_dict: dict[str, Any]) -> str:
    """Return a table of one row, with the keys as its header; for a few values only."""
    if not small_dict:
        return ""
    keys, values = zip(*small_dict.items(), strict=True)
    return tabulate(
        [values],
        headers=keys,
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )
