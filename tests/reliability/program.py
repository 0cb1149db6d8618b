"""The toy's training as a program, for the launchers that start their processes themselves.

python -m tests.reliability.program JOBS.json

JOBS.json is a list: for each start, which torchrun counts, the jobs of the ranks. Without torchrun
the first start's ranks are spawned.
"""

import json
import os
import sys

from d2lite.engine import launch
from d2lite.utils.cli import report_user_errors
from tests.reliability.jobs import Job, run_job


def main(jobs: list[dict]) -> None:
    """Run one process; `launch` sets the same variables as torchrun."""
    run_job(Job(**jobs[int(os.environ["RANK"])]))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        starts = json.load(file)
    if "RANK" in os.environ:
        main(starts[int(os.environ["TORCHELASTIC_RESTART_COUNT"])])
    else:
        with report_user_errors():
            launch(main, len(starts[0]), args=(starts[0],))
