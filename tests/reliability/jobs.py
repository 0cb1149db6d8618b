"""One process of a training that is to be killed, and how it becomes that."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from d2lite.data.stream import MappedSamples
from tests.reliability import toy
from tests.reliability.faults import inject
from tests.reliability.places import Places

__all__ = ["Job", "run_job"]


@dataclass
class Job:
    """The task of one process of a training.

    Attributes:
        output_dir: of the training.
        log: file for what it prints. Beside it, with the endings ".places" and ".pid", are the
            places that it came to, and its process id.
        settings: config keys that differ from the toy's.
        resume: as --resume.
        kill_at: the process dies at this place, counted from 1; 0: at none.
        kill_name: only places with this text in their names count.
        kill_in_worker: number of the sample at which a loader worker kills the process that
            started it; 0: none.
        fault: what is wrong with the disk, of `faults.FAULTS`; "": nothing.
        fault_file: regular expression for the files that it concerns.
        fault_spared: so many times they are opened without it.
        measure: write down after every 20th iteration what the process uses, beside `log` with the
            ending ".measured".
        environment: more variables.
    """

    output_dir: str
    log: str
    settings: dict = field(default_factory=dict)
    resume: bool = True
    kill_at: int = 0
    kill_name: str = ""
    kill_in_worker: int = 0
    fault: str = ""
    fault_file: str = ""
    fault_spared: int = 0
    measure: bool = False
    environment: dict = field(default_factory=dict)


def run_job(job: Job) -> None:
    """Train in this process, which may not come to the end of it."""
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    Path(f"{job.log}.pid").write_text(str(os.getpid()), encoding="utf-8")
    os.environ.update(job.environment)
    places = Places(job.kill_at, job.kill_name, log=f"{job.log}.places")
    places.watch()
    toy.ToyTrainer.places = places
    if job.kill_in_worker:
        _kill_from_worker(job.kill_in_worker)
    if job.fault:
        inject(job.fault, job.fault_file, job.fault_spared, job.output_dir)
    if job.measure:
        toy.ToyTrainer.measured_in = f"{job.log}.measured"
    toy.start(job.output_dir, resume=job.resume, settings=job.settings)
    places.reach("end of the program")


def _kill_from_worker(position: int) -> None:
    make, process = MappedSamples.__getitem__, os.getpid()

    def make_or_kill(samples: MappedSamples, ref):
        if ref.position == position and os.getpid() != process:
            os.kill(process, signal.SIGKILL)
        return make(samples, ref)

    MappedSamples.__getitem__ = make_or_kill
