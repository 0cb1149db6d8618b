"""Errors used everywhere: wrong arguments, bad files, dead processes."""

import contextlib
import signal
from collections.abc import Iterator
from typing import NamedTuple


class ArgumentError(AssertionError, ValueError, TypeError):
    """An invalid argument or setting.

    Raised where detectron2 has an assertion, which programs may catch. Other callers expect a
    ValueError or, for a wrong type, a TypeError; this is all of them.
    """


@contextlib.contextmanager
def file_errors(
    kind: type[Exception],
    path: object,
    problem: str,
    *,
    known: tuple[type[Exception], ...] = (),
    remedy: str = "",
) -> Iterator[None]:
    """Turn any error that the content of a file causes in the block into a one-line documented
    error.

    Decoders, parsers and the code that uses their results fail on damaged files in many ways.
    Errors that already name the file pass through if they are of the class, or of a known one.

    Args:
        kind: the documented class.
        path: the file, or the file and a part of it; messages start with it.
        problem: what is wrong with the file in general, such as "not valid XML".
        known: classes that always pass through.
        remedy: how to fix it.

    Raises:
        kind: "PATH: PROBLEM: reason. REMEDY".
    """
    try:
        yield
    except known:
        raise
    except Exception as error:
        if isinstance(error, kind) and str(path) in str(error):
            if "\n" not in str(error):
                raise
            raise kind(" ".join(str(error).split())) from error  # a name in the file has the break
        ending = f". {remedy}" if remedy else ""
        raise kind(f"{path}: {problem}: {reason_of(error)}{ending}") from error


def reason_of(error: BaseException) -> str:
    """Return the message of an error in one line of at most 200 characters."""
    text = " ".join(str(error).split()).removesuffix(".")
    if isinstance(error, KeyError):
        text = f"there is no {text}"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif not text or isinstance(error, TypeError | AttributeError | IndexError):
        text = f"{type(error).__name__} {text}".rstrip()
    return shortened(text, 200)


def quoted(value: object) -> str:
    """Return the repr of a value that a file or command line has, at most 80 characters of it."""
    return shortened(repr(value))


def shortened(text: str, limit: int = 80) -> str:
    """Return a text as a message quotes it: its first `limit` characters, in one line.

    Line breaks and control characters are written as escapes.
    """
    start = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:limit]
    )
    return start if len(text) <= limit else f"{start}..."


class ProcessDiedError(RuntimeError):
    """A process that this one depends on was killed or exited.

    It may be a worker of a data loader or a training rank.
    """


class ExitCause(NamedTuple):
    """The reason why a process has ended."""

    signal: str  # name of the signal that killed it; "" for none
    words: str  # such as "was killed by SIGKILL"


def exit_cause(status: int | None) -> ExitCause:
    """Interpret an exit status: -N means killed by signal N, None an unknown status."""
    if status is None:
        return ExitCause("", "has ended")
    if status >= 0:
        return ExitCause("", f"exited with status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return ExitCause(name, f"was killed by {name}")
