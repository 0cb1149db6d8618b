"""A process that has imported torch and d2lite, and forks the runs: importing takes seconds.

The ranks of a training are forked one by one, as torchrun would start them.
"""

import gc
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.reliability.jobs import Job, run_job

ROOT = Path(__file__).parents[2]

__all__ = ["Zygote", "environment"]


def environment() -> dict[str, str]:
    """One thread, no GPU, and this repository's modules."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


class Zygote:
    """The tests' side: starts jobs and waits for them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.zygote"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: Job) -> int:
        """Start a job; return its process id, which stays its own until `wait`."""
        return self._ask({"start": asdict(job)})

    def wait(self, process: int, seconds: float) -> int | None:
        """The exit status of a job, -N where signal N killed it; None where it still runs."""
        return self._ask({"wait": process, "seconds": seconds})

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: dict) -> int | None:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the zygote has ended"
        return json.loads(answer)


def _serve() -> None:
    import torch

    from d2lite.utils.collect_env import collect_env_info
    from tests.reliability import toy

    torch.set_num_threads(1)
    toy.register_data()
    collect_env_info()  # imports more
    gc.freeze()  # or every fork would look through all modules when it ends
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            process = os.fork()
            if process == 0:
                answers.close()
                # The end of the fork is the usual end of a program: its functions for the exit too.
                os.close(0)
                run_job(Job(**request["start"]))
                return
            answer = process
        else:
            answer = _wait(request["wait"], request["seconds"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _wait(process: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        select.select([], [], [], 0.01)


if __name__ == "__main__":
    _serve()
