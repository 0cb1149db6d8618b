"""Output folders: numbering, locking, and moving an old run aside."""

import datetime
import json
import logging
import os
import re
import shutil
import socket
import stat
from pathlib import Path
from typing import IO

from d2lite.utils import comm
from d2lite.utils.writing import naming_write_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


logger = logging.getLogger(__name__)

RUNS = "runs"  # parent folder of runs without an OUTPUT_DIR
LOCK = "run.lock"
OLD_RUNS = "old_runs"
# Files of a run. Other files in the folder are not touched.
_FILES = (
    "log.txt*",
    "config.yaml",
    "metrics.json",
    "metrics.csv",
    "wandb",
    "wandb_run_id",
    "mlflow_run_id",
    "last_checkpoint",
    "model_*.pth",
    "model_best.json",
    "events.out.tfevents.*",
    "bad_steps",
    "inference",
    "visualizations",
    "results.png",
)
# Without any of these the folder contains no run: default_setup writes log and config first.
_TRACES = ("metrics.json", "last_checkpoint", "model_*.pth")

# Folders that this process has locked, and all that it ever locked.
_claimed: dict[str, IO] = {}
_used: set[str] = set()


class OutputDirInUseError(OSError):
    """Another process is training in this OUTPUT_DIR."""


def new_run_folder(name: str, base: str = RUNS) -> str:
    """Create the folder of the next run with this name: `runs/NAME-1`, `runs/NAME-2`, ...

    Args:
        name: name of the run; characters that can't be in a file name are an error.
    """
    if not name or os.path.basename(name) != name or name.startswith("."):
        raise ValueError(f"--name is {name!r}; expected a name without slashes, such as 'cells'")
    number = max(_numbered_runs(name, base), default=0)
    while True:  # another program may take the same number at the same time
        number += 1
        folder = os.path.join(base, f"{name}-{number}")
        try:
            os.makedirs(folder)
        except FileExistsError:
            continue
        return folder


def last_run_folder(name: str, base: str = RUNS) -> str:
    """Return the folder of the latest run with this name.

    Raises:
        FileNotFoundError: there is none.
    """
    numbers = _numbered_runs(name, base)
    if not numbers:
        raise FileNotFoundError(f"there is no run {os.path.join(base, name)}-N to resume")
    return os.path.join(base, f"{name}-{max(numbers)}")


def _numbered_runs(name: str, base: str) -> list[int]:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    found = os.listdir(base) if os.path.isdir(base) else []
    return [int(match[1]) for match in map(pattern.fullmatch, found) if match]


def claim_output_dir(folder: str, *, new_run: bool, weights: str = "") -> None:
    """Lock an output folder for this process, until `release_output_dir` or the end of the process.

    The system locks the file `run.lock`, which names the owner; the lock of a killed process is
    released. If this is a new run, files of an earlier run are moved to `old_runs/N` in the folder.
    Otherwise the new run would overwrite some of them and append to others, and a later `--resume`
    could continue from the wrong one.

    Only the main process of a run calls it. If a process trains in the same folder again, it does
    not move the files.

    Args:
        folder: the output folder.
        new_run: whether this is a new run that does not resume the one in the folder.
        weights: the file that a new run starts from; it is copied and stays in place.

    Raises:
        OutputDirInUseError: another process holds the lock; the message names host and process.
    """
    if not folder or not comm.is_main_process():
        return
    folder = os.path.realpath(folder)
    os.makedirs(folder, exist_ok=True)
    _lock(folder)
    if new_run and folder not in _used:
        _set_old_run_aside(Path(folder), weights)
    _used.add(folder)


def release_output_dir(folder: str) -> None:
    """Release the lock of `claim_output_dir`, if this process has it."""
    file = _claimed.pop(os.path.realpath(folder), None)
    if file is not None:
        file.truncate(0)
        file.close()


def _lock(folder: str) -> None:
    if fcntl is None or folder in _claimed:
        return
    path = os.path.join(folder, LOCK)
    file = _open_lock(path)
    try:
        # Not flock, which the workers of a data loader would inherit and keep.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = _read(file)
        file.close()
        raise OutputDirInUseError(
            f"OUTPUT_DIR {folder} is in use: process {holder.get('pid', '?')} on host "
            f"{holder.get('host', '?')} has trained there since {holder.get('since', '?')}. Choose "
            "another OUTPUT_DIR, or stop that run first"
        ) from None
    except OSError as error:
        logger.warning(
            "%s cannot be locked (%s): a second run in this folder would not be noticed",
            path,
            error,
        )
        file.close()
        return
    holder = _read(file)
    if holder:
        logger.info(
            "The run of process %s on host %s in %s ended without releasing its lock",
            *(holder.get("pid"), holder.get("host"), folder),
        )
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    with naming_write_errors(path):
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": now}, file)
        file.flush()
    _claimed[folder] = file


def _open_lock(path: str) -> IO:
    """Open the lock file, which stays open while it is locked; raise a WriteError if that fails.

    In a folder from elsewhere it could be a link to a file that would be truncated, or a pipe.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with naming_write_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is not a file")
    return open(descriptor, "a+", encoding="utf-8")


def _read(file: IO) -> dict:
    file.seek(0)
    try:
        content = json.loads(file.read() or "{}")
    except (ValueError, RecursionError):  # of a process that died while writing
        return {}
    return content if isinstance(content, dict) else {}


def _set_old_run_aside(folder: Path, weights: str) -> None:
    if not any(any(folder.glob(trace)) for trace in _TRACES):
        return
    old_runs = folder / OLD_RUNS
    old_runs.mkdir(exist_ok=True)
    numbers = [int(path.name) for path in old_runs.iterdir() if path.name.isdigit()]
    target = old_runs / str(max(numbers, default=0) + 1)
    target.mkdir()
    weights = weights.partition("?")[0]
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        if weights and os.path.exists(weights) and os.path.samefile(path, weights):
            shutil.copy2(path, target / path.name)
        else:
            path.rename(target / path.name)
    logger.warning(
        "%s had the files of an earlier run, which this one does not resume; moved them to %s",
        *(folder, target),
    )
