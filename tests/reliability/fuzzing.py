"""Feed damaged files to every reader: each is read to a right value, or is a documented error.

    python -m tests.reliability.fuzzing                       # all readers, 1000 files each
    python -m tests.reliability.fuzzing COCO image --count 20000 --seed 7
    python -m tests.reliability.fuzzing COCO --seed 7 --index 1234    # one file again
    python -m tests.reliability.fuzzing --findings            # what was found before

The file is written to a temporary folder, whose path is printed if the process dies of it.
"""

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from tests.reliability.findings import FINDINGS
from tests.reliability.readers import READERS, Reader

MEMORY = 2**29
"""Bytes that reading a file of some kilobytes may take, beyond what the process has."""
SECONDS = 20
"""Processor time for one file. Most take a thousandth of a second."""
WAIT = 120
"""Seconds of waiting for one file."""


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


def damaged_file(reader: str, seeds: list[bytes], seed: int, index: int) -> tuple[bytes, bool]:
    """The content of a damaged file, which depends on the arguments only."""
    rng = random.Random(f"{reader} {seed} {index}")
    np.random.seed(rng.randrange(2**31))
    return READERS[reader].damaged(seeds, rng)


def problem_of(reader: Reader, path: Path, seeds: list[bytes], by_values: bool) -> str | None:
    """Return what is wrong with how a reader handles a file, or None."""
    try:
        with _time_limit():
            value = reader.read(path)
            problem = reader.wrong(value, seeds, by_values)
        return problem and f"wrong value: {problem}"
    except TooLong:
        return f"takes more than {SECONDS} s"
    except MemoryError as error:
        return f"takes more than {MEMORY >> 20} MiB ({error})"
    except reader.errors as error:
        return _fault_of_message(str(error), path if reader.names_file else None)
    except Exception as error:
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__} at {where}: {str(error)[:200]!r}"


def _fault_of_message(message: str, path: Path | None) -> str | None:
    if "\n" in message.strip():
        return f"an error of several lines: {message[:300]!r}"
    if len(message) > 1500:
        return f"an error of {len(message)} characters: {message[:200]!r}"
    if path is not None and path.name not in message:
        return f"an error without the name of the file: {message[:200]!r}"
    return None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_too_long(*_: object) -> None:
    raise TooLong


def prepare(name: str, folder: Path) -> tuple[Path, list[bytes]]:
    """Go to a folder of a reader's own; returns the file to damage and the good files for it.

    The good files are read, which takes the memory that is only taken once, and the rest of the
    process's memory is limited.
    """
    reader = READERS[name]
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    os.chdir(path.parent)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seeds = reader.seeds(path.parent)
    for number, content in enumerate(seeds):
        path.write_bytes(content)
        if not reader.seeds_are_read:
            continue
        problem = reader.wrong(reader.read(path), seeds, False)
        assert problem is None, f"good file {number} of {name}: {problem}"
    _limit_memory()
    return path, seeds


def repeat_findings(name: str, folder: Path) -> list[dict]:
    """Read what was found before; returns what is wrong again."""
    path, seeds = prepare(name, folder)
    findings = []
    for what, change in FINDINGS.get(name, {}).items():
        path.write_bytes(change(seeds[0]))
        if problem := problem_of(READERS[name], path, seeds, True):
            findings.append({"reader": name, "finding": what, "problem": problem})
    return findings


def fuzz(name: str, count: int, seed: int, folder: Path, start: int = 0) -> list[dict]:
    """Read `count` damaged files; returns the findings, one of each kind."""
    path, seeds = prepare(name, folder)
    findings: dict[str, dict] = {}
    for index in range(start, start + count):
        content, by_values = damaged_file(name, seeds, seed, index)
        path.write_bytes(content)
        problem = problem_of(READERS[name], path, seeds, by_values)
        if problem is None:
            continue
        kind = problem.partition(": ")[0]
        found = findings.setdefault(
            kind, {"reader": name, "seed": seed, "index": index, "problem": problem, "times": 0}
        )
        found["times"] += 1
    return list(findings.values())


def _limit_memory() -> None:
    used = (
        int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def main(argv: list[str] | None = None) -> int:
    """Run readers of the table, one after the other; the result is 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("readers", nargs="*", help=f"of: {', '.join(READERS)}; all by default")
    parser.add_argument("--count", type=int, default=1000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, help="read this one file only")
    parser.add_argument("--findings", action="store_true", help="repeat what was found before")
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    faulthandler.enable()
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, _raise_too_long)
    root = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    findings = []
    for number, name in enumerate(args.readers or READERS):
        print(
            f"{name}: seed {args.seed}, files in {root / str(number)}", file=sys.stderr, flush=True
        )
        folder = root / str(number)
        if args.findings:
            found = repeat_findings(name, folder)
        elif args.index is not None:
            found = fuzz(name, 1, args.seed, folder, args.index)
        else:
            found = fuzz(name, args.count, args.seed, folder)
        findings += found
        for finding in found:
            print(json.dumps(finding), flush=True)
    os.chdir("/")
    if args.index is None:
        shutil.rmtree(root)
    print(f"{len(findings)} findings", file=sys.stderr)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
