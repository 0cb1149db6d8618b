"""A training that is killed again and again, anywhere, ends as one that was left alone.

A few kills are made with all other tests. Many are made by name:

    D2LITE_KILLS=200 D2LITE_KILLS_SEED=1 python -m pytest -m slow -s -n 0 \\
        tests/reliability/test_kills.py

The seed is printed. A failure names the kills that led to it, in the order in which they came.
"""

import collections
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.end_state import differences, end_state
from tests.reliability.jobs import Job
from tests.reliability.zygote import ROOT, Zygote, environment

NUM_KILLS = int(os.environ.get("D2LITE_KILLS", "200"))
SEED = int(os.environ.get("D2LITE_KILLS_SEED", "1"))
MOST_SECONDS = 120.0  # until a process has ended; the machine may be busy


@dataclass(frozen=True)
class Variant:
    """One kind of training."""

    name: str
    settings: dict
    ranks: int = 1


EMA = {"MODEL_EMA.ENABLED": True, "MODEL_EMA.DECAY": 0.9}
# The periods fall on iterations of checkpoints and on others; an epoch is 4 iterations.
AIDS = {
    **EMA,
    "ACTIVATION_PERIOD": 5,
    "HOOKS": ("CountImages",),
    "MODEL.FREEZE": ("norm.*", "fc.bias"),
    "SOLVER.EPOCH_LOSSES": True,
    "SOLVER.IMS_PER_BATCH": 6,
    "TEST.LOSS_PERIOD": 2,
    "WRITERS": ("csv",),
}
VARIANTS = {
    variant.name: variant
    for variant in [
        Variant("plain", {}),
        Variant("EMA", EMA),
        Variant("patience", {"TEST.PATIENCE": 1}),
        Variant(
            "other periods",  # evaluations and checkpoints fall on different iterations
            {
                "SOLVER.CHECKPOINT_PERIOD": 4,
                "SOLVER.CHECKPOINT_KEEP": 2,
                "SOLVER.AMP.ENABLED": True,
                "TEST.PRECISE_BN.ENABLED": True,
                "TEST.PRECISE_BN.NUM_ITER": 2,
            },
        ),
        Variant("training aids", AIDS),
        Variant("two ranks", EMA, ranks=2),
        Variant("two ranks, training aids", AIDS, ranks=2),
        Variant(
            "two ranks, patience",
            {"TEST.PATIENCE": 1, "SOLVER.CHECKPOINT_PERIOD": 2},
            ranks=2,
        ),
    ]
}


@dataclass(frozen=True)
class Kill:
    """How one start of a training ends."""

    rank: int = 0
    place: int = 0  # number of a place, from 1
    name: str = ""  # of the places that count
    in_worker: int = 0  # number of a sample
    after: float = 0.0  # seconds


class Trainings:
    """Runs trainings of the variants, and remembers how one ends that is left alone.

    Attributes:
        kills: made so far, by kind of place.
    """

    def __init__(self, zygote: Zygote, folder: Path):
        self._zygote = zygote
        self._folder = folder
        self._alone: dict[str, tuple[dict, float, list[int]]] = {}
        self._count = 0
        self.kills: collections.Counter[str] = collections.Counter()

    def alone(self, variant: Variant) -> tuple[dict, float, list[int]]:
        """State at the end, seconds, and the number of places of each rank."""
        if variant.name not in self._alone:
            folder = self.new_folder()
            began = time.monotonic()
            codes = self._start(variant, folder, workers=0)
            seconds = time.monotonic() - began
            assert codes == [0] * variant.ranks, log_of(folder)
            places = [len(self._places(folder, rank)) for rank in range(variant.ranks)]
            self._alone[variant.name] = end_state(folder / "run"), seconds, places
            shutil.rmtree(folder)
        return self._alone[variant.name]

    def killed(self, variant: Variant, kills: list[Kill], workers: list[int]) -> list[str]:
        """Run a training until its end, with a kill in each start but the last.

        Args:
            workers: of the loader, for each start; one more than kills.
        Returns:
            how it ended otherwise than one that was left alone; [] if it did not.
        """
        self.alone(variant)
        folder = self.new_folder()
        story = [variant.name]
        for kill, number in zip(kills, workers, strict=False):
            codes = self._start(variant, folder, workers=number, kill=kill)
            where = self._where(folder, kill)
            story.append(f"{kill} with {number} workers: {where}; exit statuses {codes}")
            if None in codes:
                return [*story, f"a rank did not end by itself: {log_of(folder)}"]
            if -signal.SIGKILL in codes:
                self.kills[where] += 1
        codes = self._start(variant, folder, workers=workers[-1])
        if codes != [0] * variant.ranks:
            return [*story, f"the last start ended with {codes}: {log_of(folder)}"]
        return self.compared(variant, folder, story)

    def compared(self, variant: Variant, folder: Path, story: list[str]) -> list[str]:
        """The story of a training, and how it ended otherwise than one that was left alone."""
        found = differences(self.alone(variant)[0], end_state(folder / "run"))
        if found:
            return [*story, *found[:8], f"it is in {folder}"]
        shutil.rmtree(folder)
        return []

    def new_folder(self) -> Path:
        """For one training: its OUTPUT_DIR "run", and what its processes print beside that."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder

    def _places(self, folder: Path, rank: int) -> list[str]:
        path = folder / f"rank{rank}.txt.places"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _where(self, folder: Path, kill: Kill) -> str:
        reached = self._places(folder, kill.rank)
        if "end of the program" in reached:
            return "end of the program"
        if kill.in_worker:
            return "while a worker prefetches"
        return reached[-1] if kill.place else "at any time"

    def _start(
        self, variant: Variant, folder: Path, *, workers: int, kill: Kill | None = None
    ) -> list[int | None]:
        """The exit statuses of the ranks; None of one that does not end."""
        port = free_port()
        jobs = [
            Job(
                str(folder / "run"),
                str(folder / f"rank{rank}.txt"),
                {**variant.settings, "DATALOADER.NUM_WORKERS": workers},
                environment=as_torchrun_sets(rank, variant.ranks, port),
            )
            for rank in range(variant.ranks)
        ]
        if kill is not None:
            jobs[kill.rank] = with_kill(jobs[kill.rank], kill)
        processes = [self._zygote.start(job) for job in jobs]
        if kill is not None and kill.after:
            time.sleep(kill.after)
            os.kill(processes[kill.rank], signal.SIGKILL)
        codes = [self._zygote.wait(process, MOST_SECONDS) for process in processes]
        for process, code in zip(processes, codes, strict=True):
            if code is None:
                os.kill(process, signal.SIGKILL)
                self._zygote.wait(process, MOST_SECONDS)
        return codes


def with_kill(job: Job, kill: Kill) -> Job:
    """The same job, and its end."""
    return dataclasses.replace(
        job, kill_at=kill.place, kill_name=kill.name, kill_in_worker=kill.in_worker
    )


def as_torchrun_sets(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The variables of one of several ranks; none for a single one."""
    if ranks == 1:
        return {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def log_of(folder: Path) -> str:
    """The last lines that each process printed."""
    ends = [path.read_text(encoding="utf-8")[-2000:] for path in sorted(folder.glob("rank*.txt"))]
    return "\n".join(ends)


def random_kill(rng: random.Random, places: list[int], seconds: float) -> Kill:
    """A kill at any place of any rank, or at any time."""
    rank = rng.randrange(len(places))
    kind = rng.random()
    if kind < 0.7:
        return Kill(rank, place=rng.randint(1, places[rank]))
    if kind < 0.8:
        return Kill(rank, in_worker=rng.randint(1, 20))
    return Kill(rank, after=rng.uniform(0.01, seconds))


@pytest.fixture(scope="module")
def trainings(tmp_path_factory) -> Iterator[Trainings]:
    zygote = Zygote()
    yield Trainings(zygote, tmp_path_factory.mktemp("kills"))
    zygote.close()


def test_a_training_left_alone_has_something_to_lose(trainings):
    state, _, places = trainings.alone(VARIANTS["EMA"])
    assert [line["iteration"] for line in state["metrics.json"]] == [2, 5, 8, 11, 13, 14]
    assert state["TensorBoard"]["toy/score"][-1][0] == 14
    assert json.loads(state["model_best.json"])["iteration"] == 11
    assert {"model_best_ema.pth", "model_final_ema.pth"} <= state.keys()
    assert places[0] > 100
    aids = trainings.alone(VARIANTS["training aids"])[0]
    found = {line["iteration"]: line for line in aids["metrics.json"]}
    for name, iterations in {
        "val_loss/total_loss": [1, 3, 5, 7, 9, 11, 14],
        "epoch/total_loss": [3, 7, 11],
        "activation/conv/std": [4, 9],
    }.items():
        assert [i for i, line in found.items() if name in line] == iterations
    assert found[13]["images"] == 14 * 6
    assert len(aids["metrics.csv"]) == len(found)
    stopped = trainings.alone(VARIANTS["patience"])[0]
    assert [line["iteration"] for line in stopped["metrics.json"]] == [2, 5, 8]


def test_a_difference_is_noticed(trainings):
    state = trainings.alone(VARIANTS["plain"])[0]
    other = trainings.alone(VARIANTS["EMA"])[0]
    assert differences(state, state) == []
    assert any("model_final_ema.pth" in told for told in differences(state, other))
    assert any("score" in told for told in differences(state, other))


SHORT = {
    "plain": ["in torch.save", "after replace model_00", "EvalHook.after_step", "torch.save"],
    "EMA": ["before replace model_best_ema", "before replace model_best.json", "process"],
    "training aids": ["after replace model_00", "ValidationLoss.after_step", "metrics.csv"],
    "other periods": ["append to metrics.json", "append to events", "before remove model_"],
}


@pytest.mark.parametrize("name", SHORT)
def test_kills_at_places_of_every_kind_leave_no_trace(trainings, name):
    kills = [Kill(place=2, name=place) for place in SHORT[name]] + [Kill(in_worker=9)]
    workers = [0, 1, 0, 0, 0, 0][-len(kills) - 1 :]
    workers[-2] = 2  # of the last kill
    assert trainings.killed(VARIANTS[name], kills, workers) == []


def test_a_killed_rank_ends_the_other_and_leaves_no_trace(trainings):
    kills = [Kill(1, place=8, name="before a step"), Kill(0, place=1, name="evaluator.process")]
    assert trainings.killed(VARIANTS["two ranks"], kills, [0, 2, 0]) == []


@pytest.mark.slow
def test_many_kills_at_random_places_and_times_leave_no_trace(trainings):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    faults: list[list[str]] = []
    num_trainings = 0
    while sum(trainings.kills.values()) < NUM_KILLS:
        variant = rng.choice(list(VARIANTS.values()))
        _, seconds, places = trainings.alone(variant)
        kills = [random_kill(rng, places, seconds) for _ in range(rng.randint(1, 4))]
        # Only workers can kill.
        workers = [rng.choice([1, 2] if kill.in_worker else [0, 0, 1, 2]) for kill in kills]
        told = trainings.killed(variant, kills, [*workers, rng.choice([0, 2])])
        num_trainings += 1
        if told:
            print(*told, sep="\n  ", flush=True)
            faults.append(told)
    print(f"{sum(trainings.kills.values())} kills in {num_trainings} trainings")
    for place, count in trainings.kills.most_common():
        print(f"{count:5} {place}")
    assert faults == []


def start_program(folder: Path, starts: list[list[Job]], *launcher: str) -> subprocess.Popen:
    (folder / "jobs.json").write_text(
        json.dumps([[dataclasses.asdict(job) for job in ranks] for ranks in starts])
    )
    module = ["-m", "tests.reliability.program", str(folder / "jobs.json")]
    with (folder / "launcher.txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, *launcher, *module],
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=output,
        )


def jobs_of(variant: Variant, folder: Path, workers: int, kill: Kill | None = None) -> list[Job]:
    jobs = [
        Job(
            str(folder / "run"),
            str(folder / f"rank{rank}.txt"),
            {**variant.settings, "DATALOADER.NUM_WORKERS": workers},
        )
        for rank in range(2)
    ]
    if kill is not None:
        jobs[kill.rank] = with_kill(jobs[kill.rank], kill)
    return jobs


def launched_kills(salt: str) -> list[Kill]:
    rng = random.Random(f"{SEED} {salt}")
    return [Kill(rng.randrange(2), place=rng.randint(1, 300)) for _ in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two ranks", "two ranks, patience"])
def test_torchrun_restarts_what_was_killed(trainings, name):
    variant, folder = VARIANTS[name], trainings.new_folder()
    kills = launched_kills(name)
    starts = [jobs_of(variant, folder, i % 3, kill) for i, kill in enumerate([*kills, None])]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    process = start_program(folder, starts, *torchrun, "--max-restarts", str(len(kills)))
    try:
        assert process.wait(timeout=5 * MOST_SECONDS) == 0, log_of(folder)
    finally:
        process.kill()
        process.wait()
    story = [name, *map(str, kills), (folder / "launcher.txt").read_text()[-2000:]]
    assert trainings.compared(variant, folder, story) == []


def gone(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher"])
def test_spawned_ranks_end_with_the_one_that_was_killed(trainings, victim):
    variant, folder = VARIANTS["two ranks"], trainings.new_folder()
    kill = launched_kills(victim)[0]
    if victim != "launcher":
        kill = dataclasses.replace(kill, rank=int(victim[-1]))
        process = start_program(folder, [jobs_of(variant, folder, 2, kill)])
        assert process.wait(timeout=MOST_SECONDS) != 0
    else:
        process = start_program(folder, [jobs_of(variant, folder, 2)])
        deadline = time.monotonic() + MOST_SECONDS
        while not (folder / "run/model_0000005.pth").exists():
            assert time.monotonic() < deadline, log_of(folder)
            time.sleep(0.005)
        ranks = [int((folder / f"rank{rank}.txt.pid").read_text()) for rank in range(2)]
        process.kill()
        process.wait()
        while not all(map(gone, ranks)):
            assert time.monotonic() < deadline, log_of(folder)
            time.sleep(0.05)
    process = start_program(folder, [jobs_of(variant, folder, 0)])
    assert process.wait(timeout=MOST_SECONDS) == 0, log_of(folder)
    story = [victim, str(kill), (folder / "launcher.txt").read_text()[-2000:]]
    assert trainings.compared(variant, folder, story) == []
