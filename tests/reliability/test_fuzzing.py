"""Damaged files: each is read to a right value, or is a documented error that names it.

D2LITE_FUZZ_COUNT and D2LITE_FUZZ_SEED set how many files each reader gets, and which.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2lite.checkpoint.reading import CheckpointFileError, read_checkpoint_file
from tests.reliability.readers import READERS, _equal, _saved, _weights

ROOT = Path(__file__).parents[2]
COUNT = os.environ.get("D2LITE_FUZZ_COUNT")
SEED = os.environ.get("D2LITE_FUZZ_SEED")


def run_fuzzer(*arguments: object, timeout: float = 600) -> None:
    """A process of its own, as its memory is limited and it may die."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.fuzzing", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    told = f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr[-2000:]}"
    print(told)  # with the seed, if the test fails
    assert done.returncode == 0, told


def test_damaged_files_of_every_kind():
    run_fuzzer("--count", COUNT or 40, "--seed", SEED or 0)


def test_what_was_found_before_is_not_found_again():
    run_fuzzer("--findings")


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_many_damaged_files(reader):
    seed = SEED or random.randrange(10**6)
    run_fuzzer(reader, "--count", COUNT or 5000, "--seed", seed, timeout=3600)


@pytest.mark.slow
def test_every_flipped_bit_of_a_checkpoint(tmp_path):
    path = tmp_path / "model.pth"
    content = bytearray(_saved({"model": {"w": torch.arange(4.0)}, "iteration": 3}))
    path.write_bytes(content)
    good = read_checkpoint_file(path)
    refused = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        content[place // 8] ^= 1 << place % 8
        try:
            assert _equal(read_checkpoint_file(path), good), f"bit {place} gives other values"
        except CheckpointFileError as error:
            assert str(path) in str(error)
            refused += 1
    print(f"{refused} of {8 * len(content)} files are refused")
    assert refused > 4 * len(content)  # the rest is padding and time stamps


@pytest.mark.slow
def test_every_flipped_bit_of_the_newest_checkpoint_of_a_run(tmp_path):
    """Error or fallback, never other weights: the same by what a run does on resume."""
    from d2lite.checkpoint import DetectionCheckpointer
    from tests.reliability.readers import _model

    model = _model()
    checkpointer = DetectionCheckpointer(model, str(tmp_path))
    for iteration in (3, 5):
        torch.nn.init.constant_(model[0].weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    newest = tmp_path / "model_0000005.pth"
    content = bytearray(newest.read_bytes())
    fell_back = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        newest.write_bytes(content)
        content[place // 8] ^= 1 << place % 8
        found = checkpointer.resume_or_load("", resume=True)
        assert found["iteration"] in (3, 5)
        assert (model[0].weight == found["iteration"]).all()
        fell_back += found["iteration"] == 3
    print(f"{fell_back} of {8 * len(content)} files are refused for the one before")
    assert fell_back > 4 * len(content)


def test_the_fuzzer_itself_notices(tmp_path, monkeypatch):
    """A reader that raises anything, and one that reads other weights, are findings."""
    from tests.reliability import fuzzing, readers

    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    for read, problem in (
        (lambda path: {}["key"], "KeyError at test_fuzzing.py"),
        (lambda path: torch.zeros(1), "wrong value: other weights"),
        (lambda path: readers.read_checkpoint_file(path.with_name("other")), "FileNotFound"),
    ):
        reader = READERS["checkpoint"]
        monkeypatch.setattr(reader, "read", read)
        seeds = [_saved(_weights())]
        assert fuzzing.problem_of(reader, path, seeds, False).startswith(problem)
