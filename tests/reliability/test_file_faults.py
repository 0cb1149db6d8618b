"""Each kind of file that a run writes, with each fault: what is lost is told, and nothing else is.

All of them are tried by name, with `-m slow`; a few are with all other tests.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.reliability.end_state import differences, end_state
from tests.reliability.faults import FAULTS
from tests.reliability.jobs import Job
from tests.reliability.toy import BAD_STEP
from tests.reliability.zygote import Zygote

SECONDS = 120.0  # until a process has ended; the machine may be busy


class File(NamedTuple):
    """A kind of file of a run.

    Attributes:
        pattern: of its path in the output folder.
        spared: so many times it is opened without a fault.
        status: of a program that cannot write it, from the fault to its end: 1 where it says so in
            the end, or does not begin.
        lost: what is not as in a run that was left alone, after the next start too.
    """

    pattern: str
    spared: int
    status: int
    lost: str = "nothing"


FILES = {
    "checkpoint": File(r"model_\d+\.pth", 1, 0, r"\['(model_\d+\.pth|files)'\]"),
    "final checkpoint": File(r"model_final\.pth", 0, 1),
    "last_checkpoint": File("last_checkpoint", 1, 1),
    "best checkpoint": File(
        # The checkpoints say which is the best: the first one, of those that there are. The next
        # start saves the best of the last evaluation, which is the newest checkpoint then.
        *(r"model_best\.pth", 1, 1, r"\['(model_(best|final|\d+)\.(pth|json)|last_checkpoint)'\]")
    ),
    "model_best.json": File(r"model_best\.json", 1, 0, r"\['model_best\.json'\]"),
    "metrics.json": File(r"metrics\.json", 1, 1, r"\['metrics\.json'\]"),
    "TensorBoard": File(r"events\.out\.tfevents", 1, 1, r"\['TensorBoard'\]"),
    "config.yaml": File(r"config\.yaml", 0, 1),
    "log.txt": File(r"log\.txt", 0, 1),
    "run.lock": File(r"run\.lock", 0, 1),
    "results of an evaluation": File("inference/", 1, 0),
    "step that is not finite": File("bad_steps/", 0, 0, r"\['files'\]"),
}
# The program prints where the log cannot go on.
GOES_ON = {("full", "log.txt")}
BEGINNING = ("config.yaml", "log.txt", "run.lock")


class Runs:
    """Runs the toy's training, with a step that is not finite, which it skips."""

    def __init__(self, zygote: Zygote, folder: Path):
        self._zygote, self._folder = zygote, folder
        self._count = itertools.count()
        folder = self.new_folder()
        status, told = self.start(folder)
        assert status == 0, told
        self.alone = end_state(folder / "run")

    def new_folder(self) -> Path:
        """For one training: its OUTPUT_DIR "run", and what its processes print beside that."""
        folder = self._folder / str(next(self._count))
        folder.mkdir()
        return folder

    def start(self, folder: Path, **job: object) -> tuple[int | None, str]:
        """Start or resume it; returns its exit status and what it printed."""
        log = folder / f"start{next(self._count)}.txt"
        settings = {"SOLVER.BAD_STEPS.ACTION": "skip"}
        process = self._zygote.start(
            Job(str(folder / "run"), str(log), settings, environment={BAD_STEP: "6"}, **job)
        )
        return self._zygote.wait(process, SECONDS), log.read_text(encoding="utf-8")

    def lost(self, folder: Path, file: str) -> list[str]:
        """How it ended otherwise than one that was left alone, but for what the file is about."""
        found = differences(self.alone, end_state(folder / "run"))
        return [d for d in found if not d.startswith("  ") and not re.match(FILES[file].lost, d)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[Runs]:
    zygote = Zygote()
    yield Runs(zygote, tmp_path_factory.mktemp("faults"))
    zygote.close()


def check_fault(runs: Runs, fault: str, name: str) -> None:
    """One that cannot be written to the end, or once where the folder has vanished."""
    file, folder = FILES[name], runs.new_folder()
    status, told = runs.start(
        folder, fault=fault, fault_file=file.pattern, fault_spared=file.spared
    )
    goes_on = (fault, name) in GOES_ON or (fault == "vanishing" and name not in BEGINNING)
    assert status == (0 if goes_on else file.status), told
    lines = [line for line in told.splitlines() if re.search("cannot be written|not saved", line)]
    reason = {
        "full": "No space left on device",
        "read-only": "Read-only file system",
        "vanishing": "there is no folder",
    }[fault]
    assert any(re.search(f"{file.pattern}.*{reason}", line) for line in lines), told
    assert "Traceback" not in told
    status, told = runs.start(folder)
    assert status == 0, told
    if fault != "vanishing" or name in BEGINNING:
        assert runs.lost(folder, name) == []
    else:  # with all that was there before
        final = end_state(folder / "run")["model_final.pth"]["model"]
        assert differences(runs.alone["model_final.pth"]["model"], final) == []


def check_damage(runs: Runs, name: str) -> None:
    """One whose second half is other bytes when a killed training goes on."""
    folder = runs.new_folder()
    status, told = runs.start(folder, kill_at=9, kill_name="before a step")
    assert status == -9, told
    paths = [p for p in sorted((folder / "run").rglob("*")) if p.is_file()]
    paths = [p for p in paths if re.match(FILES[name].pattern, str(p.relative_to(folder / "run")))]
    assert paths
    path = paths[-1]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\0{[")
    status, told = runs.start(folder)
    assert status == 0, told
    assert "Traceback" not in told
    if name == "checkpoint":
        path.unlink()  # it is not the newest one, and stays as it is
    assert runs.lost(folder, name) == []
    used = name == "best checkpoint"  # the newest one at that time
    if used or name == "last_checkpoint":
        assert re.search(f"{re.escape(str(path))} is damaged", told)


DAMAGED = [name for name in FILES if name != "final checkpoint"]  # without it the run is not over
SHORT = [("full", "checkpoint"), ("read-only", "metrics.json"), ("vanishing", "last_checkpoint")]


@pytest.mark.parametrize("fault, name", SHORT)
def test_what_cannot_be_written_is_told_and_nothing_else_is_lost(runs, fault, name):
    check_fault(runs, fault, name)


def test_a_damaged_file_is_told_and_does_without(runs):
    check_damage(runs, "best checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_file_with_every_fault(runs, fault, name):
    check_fault(runs, fault, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_every_file_damaged(runs, name):
    check_damage(runs, name)
