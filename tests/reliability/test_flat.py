"""Thousands of iterations take no more memory, files, processes or time at their end.

    D2LITE_ITERATIONS=5000 python -m pytest -m slow -s -n 0 tests/reliability/test_flat.py

prints what was measured. The step time is not compared: other programs change it.
"""

import json
import os
import statistics
from pathlib import Path

import pytest

from tests.reliability.jobs import Job
from tests.reliability.zygote import Zygote

ITERATIONS = int(os.environ.get("D2LITE_ITERATIONS", "5000"))


def quarters(values: list[float]) -> list[float]:
    """The medians of four parts. The first tenth, in which caches fill, is left out."""
    kept = values[len(values) // 10 :]
    size = len(kept) // 4
    return [statistics.median(kept[i * size : (i + 1) * size]) for i in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_grows(tmp_path, workers):
    zygote = Zygote()
    settings = {
        "SOLVER.MAX_ITER": ITERATIONS,
        "SOLVER.STEPS": (),
        "SOLVER.CHECKPOINT_PERIOD": ITERATIONS // 20,
        "SOLVER.CHECKPOINT_KEEP": 2,
        "TEST.EVAL_PERIOD": ITERATIONS // 20,
        "MODEL_EMA.ENABLED": True,
        "DATALOADER.NUM_WORKERS": workers,
    }
    job = Job(str(tmp_path / "run"), str(tmp_path / "log.txt"), settings, measure=True)
    process = zygote.start(job)
    assert zygote.wait(process, 3600) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    zygote.close()
    lines = (tmp_path / "log.txt.measured").read_text().splitlines()
    measured = [json.loads(line) for line in lines]
    assert len(measured) >= ITERATIONS // 20
    print(f"\n{ITERATIONS} iterations, {workers} workers; medians of the quarters:")
    found = {name: quarters([one[name] for one in measured]) for name in measured[0]}
    for name, medians in found.items():
        print(f"{name:>20}: " + "  ".join(f"{median:10.3f}" for median in medians))
    for name in ("open files", "shared memory files", "processes", "threads"):
        assert len(set(found[name])) == 1, (name, found[name])
    # All values of the storage are kept, 16 bytes and their objects; and the loader's workers share
    # pages that Python's counting of references makes their own.
    assert found["memory MB"][3] - found["memory MB"][0] < 4e-3 * ITERATIONS
    sizes = {path.name: path.stat().st_size for path in Path(tmp_path / "run").glob("model_0*")}
    assert len(sizes) == 2
    assert max(sizes.values()) < 1.1 * min(sizes.values())
