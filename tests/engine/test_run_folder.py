"""One run at a time in a folder, and the files of one run."""

import json
import os
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from d2lite.engine import run_folder
from d2lite.engine.run_folder import (
    OutputDirInUseError,
    claim_output_dir,
    last_run_folder,
    new_run_folder,
    release_output_dir,
)
from tests.engine.tiny import environment

FILES = {
    "metrics.json": "{}",
    "log.txt": "log",
    "log.txt.rank1": "log",
    "config.yaml": "VERSION: 2",
    "last_checkpoint": "model_final.pth",
    "model_final.pth": "weights",
    "model_best.json": "{}",
    "events.out.tfevents.1.host": "curves",
    "inference/coco_instances_results.json": "[]",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a run, and with files that are not of a run."""
    monkeypatch.setattr(run_folder, "_used", set())
    monkeypatch.setattr(run_folder, "_claimed", {})  # those of programs that failed in other tests
    for name, text in {**FILES, "notes.txt": "mine", "other_run/metrics.json": "{}"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    yield tmp_path
    release_output_dir(tmp_path)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != run_folder.LOCK
    }


def test_a_new_run_moves_the_old_one_aside_whole(folder):
    claim_output_dir(folder, new_run=True)
    assert files(folder / "old_runs/1") == FILES
    assert set(files(folder)) - {f"old_runs/1/{name}" for name in FILES} == {
        "notes.txt",
        "other_run/metrics.json",
    }
    (folder / "metrics.json").write_text("{}")
    claim_output_dir(folder, new_run=True)  # the same process again
    assert not (folder / "old_runs/2").exists()
    run_folder._used.clear()
    claim_output_dir(folder, new_run=True)
    assert set(files(folder / "old_runs/2")) == {"metrics.json"}


def test_the_weights_that_a_new_run_starts_from_stay(folder):
    weights = str(folder / "model_final.pth")
    claim_output_dir(folder, new_run=True, weights=weights)
    assert os.path.isfile(weights)
    assert files(folder / "old_runs/1") == FILES


def test_a_resumed_run_and_a_folder_without_a_run_keep_their_files(folder):
    before = files(folder)
    claim_output_dir(folder, new_run=False)
    assert files(folder) == before
    claim_output_dir(folder / "other", new_run=True)
    (folder / "other/log.txt").write_text("of the start that was refused")
    run_folder._used.clear()
    claim_output_dir(folder / "other", new_run=True)
    assert set(files(folder / "other")) == {"log.txt"}
    release_output_dir(folder / "other")


@pytest.mark.parametrize(
    "arguments, moved",
    [
        ({"resume": False, "eval_only": False}, True),
        ({"resume": True, "eval_only": False}, False),
        ({"resume": False, "eval_only": True}, False),
        ({}, False),  # of a program with arguments of its own
    ],
)
def test_what_default_setup_is_asked_for(folder, arguments, moved):
    from d2lite.engine import default_setup
    from tests.engine.tiny import tiny_cfg

    default_setup(tiny_cfg(folder), Namespace(**arguments))
    assert (folder / "old_runs").exists() == moved
    is_claimed = os.path.realpath(folder) in run_folder._claimed
    assert is_claimed == (arguments.get("eval_only") is False)


HOLD = """
import sys
from d2lite.engine.run_folder import claim_output_dir
claim_output_dir(sys.argv[1], new_run=False)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_run_is_refused_and_the_lock_of_a_killed_one_is_free(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        told = (
            rf"in use: process {holder.pid} on host {socket.gethostname()} has trained there since"
        )
        for _ in range(2):
            with pytest.raises(OutputDirInUseError, match=told):
                claim_output_dir(tmp_path, new_run=True)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    claim_output_dir(tmp_path, new_run=True)
    assert json.loads((tmp_path / run_folder.LOCK).read_text())["pid"] == os.getpid()
    release_output_dir(tmp_path)
    assert (tmp_path / run_folder.LOCK).read_text() == ""


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_not_a_file_is_not_written_to(tmp_path, kind):
    lock, other = tmp_path / "run" / "run.lock", tmp_path / "other"
    lock.parent.mkdir()
    other.write_text("kept")
    if kind == "link":
        lock.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(OSError, match=r"run\.lock cannot be written"):
        claim_output_dir(str(lock.parent), new_run=False)
    assert other.read_text() == "kept"


def test_numbers_of_runs(tmp_path):
    base = str(tmp_path)
    assert Path(new_run_folder("x", base)).name == "x-1"
    (tmp_path / "x-9").mkdir()
    (tmp_path / "x-y-20").mkdir()
    assert Path(new_run_folder("x", base)).name == "x-10"
    assert Path(last_run_folder("x", base)).name == "x-10"
