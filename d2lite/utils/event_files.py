"""Cut the output files of a previous run back to the iteration where it is resumed.

A run that was killed after iteration 57 and is resumed with iteration 40 writes 40 to 57 again.
Each function here drops the earlier records of these iterations. A file is rewritten under a
temporary name and renamed, so a kill at any moment leaves either the old or the new one.

A run that starts with iteration 0 in a used folder keeps nothing: the old files are moved to its
subfolder `previous_run/`, which TensorBoard shows as a separate run.
"""

import csv
import json
import math
import os
from pathlib import Path

from d2lite.utils.writing import atomic_write, naming_write_errors

_SET_ASIDE = "previous_run"


def drop_json_lines_from(start_iter: int, json_file: str, *, last_too: bool = False) -> int:
    """Drop lines whose "iteration" is `start_iter` or later, and a last line cut off by a kill.

    Args:
        last_too: drop the line of the iteration before `start_iter` as well.
    Returns:
        The last iteration that is left in the file, -1 where there is none.
    """
    path = Path(json_file)
    if not path.is_file():
        return -1
    if start_iter == 0:
        _set_aside(path)
        return -1
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _iteration_of(line) < start_iter - last_too]
    if kept != lines:
        with atomic_write(path) as file:
            file.write(b"".join(kept))
    return max((int(_iteration_of(line)) for line in kept), default=-1)


def drop_csv_rows_from(
    start_iter: int, csv_file: str, *, last_too: bool = False
) -> tuple[int, list[str]]:
    """Drop rows of iteration `start_iter` or later, and a last one cut off by a kill.

    Args:
        csv_file: has a header, and the iteration in its first column.
        last_too: drop the row of the iteration before `start_iter` as well.
    Returns:
        The last iteration that is left, -1 where there is none, and the names of the columns.
    """
    path = Path(csv_file)
    if not path.is_file():
        return -1, []
    if start_iter == 0:
        _set_aside(path)
        return -1, []
    lines = path.read_bytes().splitlines(keepends=True)
    header, rows = lines[:1], lines[1:]
    kept, last = [], -1
    for row in rows:
        first = row.partition(b",")[0].strip()
        if row.endswith(b"\n") and first.isdigit() and int(first) < start_iter - last_too:
            kept.append(row)
            last = max(last, int(first))
    if len(kept) != len(rows):
        with atomic_write(path) as file:
            file.write(b"".join([*header, *kept]))
    columns = next(csv.reader([b"".join(header).decode()]), [])
    return last, columns


def _iteration_of(line: bytes) -> float:
    """Return the iteration of a line of json; infinite for a damaged line, such as an incomplete
    one."""
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    return iteration if type(iteration) is int else math.inf


def drop_event_records_from(
    start_iter: int, log_dir: str, *, last_too: bool = False
) -> dict[str, int]:
    """Drop TensorBoard records of step `start_iter` or later from the event files of a folder.

    Args:
        last_too: drop the scalars of the step before `start_iter` as well. Images and histograms,
            which no checkpoint contains, are kept.
    Returns:
        By tag, the last step that is left. A kill may cut off a step between two tags.
    """
    last: dict[str, int] = {}
    for path in sorted(Path(log_dir).glob("events.out.tfevents.*")):
        if start_iter == 0:
            _set_aside(path)
        else:
            for tag, step in _drop_records(path, start_iter, last_too).items():
                last[tag] = max(last.get(tag, -1), step)
    return last


def _drop_records(path: Path, start_iter: int, last_too: bool) -> dict[str, int]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    # Viewers read every file with "tfevents" in its name.
    temporary = path.with_name("rewriting-" + path.name.replace("tfevents", "partial"))
    dropped = False
    last: dict[str, int] = {}
    with naming_write_errors(temporary, path.stat().st_size), open(temporary, "wb") as file:
        writer = RecordWriter(file)
        for record in RawEventFileLoader(str(path)).Load():  # ends at one that a kill cut off
            event = Event.FromString(record)
            # The header of the file has step 0 and no summary.
            has_values = event.HasField("summary")
            again = (
                last_too
                and event.step == start_iter - 1
                and all(value.HasField("simple_value") for value in event.summary.value)
            )
            if has_values and (event.step >= start_iter or again):
                dropped = True
                continue
            writer.write(record)
            if has_values:
                last |= {value.tag: event.step for value in event.summary.value}
        writer.flush()
        os.fsync(file.fileno())
    if dropped:
        os.replace(temporary, path)
    else:
        temporary.unlink()
    return last


def _set_aside(path: Path) -> None:
    folder = path.parent / _SET_ASIDE
    with naming_write_errors(folder / path.name):
        folder.mkdir(exist_ok=True)
        os.replace(path, folder / path.name)
