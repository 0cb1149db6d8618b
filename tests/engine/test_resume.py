"""A run that is killed and resumed ends with the weights of one that was not."""

import json
import signal
import subprocess
import time

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data.loader import close_running_loaders
from d2lite.engine import DefaultTrainer, hooks
from tests.engine.tiny import command, environment, run
from tests.reliability import toy


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run(command(folder))
    assert done.returncode == 0, done.stderr
    return weights(folder)


def run_and_kill(folder, workers):
    """Kill -9 as soon as the second checkpoint is there; iterations 8 and later may have begun."""
    process = subprocess.Popen(
        command(folder, DATALOADER__NUM_WORKERS=workers, SOLVER__MAX_ITER=100000),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "model_0000007.pth").exists():
            assert process.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_run_has_the_weights_of_an_uninterrupted_one(
    tmp_path, uninterrupted, workers
):
    run_and_kill(tmp_path, workers)
    for path in tmp_path.glob("model_*.pth"):
        if path.name not in ("model_0000003.pth", "model_0000007.pth"):
            path.unlink()  # written between the poll and the kill
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    done = run(command(tmp_path, "--resume", DATALOADER__NUM_WORKERS=workers))
    assert done.returncode == 0, done.stderr
    got = weights(tmp_path)
    assert got.keys() == uninterrupted.keys()
    different = [name for name in got if not torch.equal(got[name], uninterrupted[name])]
    assert different == []

    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    iterations = [line["iteration"] for line in lines]
    assert iterations == sorted(set(iterations))


TRAINING_AIDS = {
    "TEST.BEST_METRIC": "",
    "DATASETS.TEST": (),
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.ACCUMULATE_STEPS": 2,
    "SOLVER.MAX_ITER": 10,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "MODEL_EMA.ENABLED": True,
    "INPUT.MIX.MOSAIC_PROB": 0.6,
    "INPUT.MIX.MIXUP_PROB": 0.6,
    "INPUT.MIX.COPY_PASTE_PROB": 0.6,
    "INPUT.MIX.UNTIL": 0.7,
}


class Killed(hooks.HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise MemoryError("killed")


def train_with_aids(folder, workers, kill_at=None, resume=False):
    toy.register_data()
    cfg = get_cfg()
    settings = {**toy.SETTINGS, **TRAINING_AIDS, "DATALOADER.NUM_WORKERS": workers}
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    cfg.OUTPUT_DIR = str(folder)
    trainer = DefaultTrainer(cfg)
    trainer.register_hooks([Killed(kill_at)])
    trainer.resume_or_load(resume=resume)
    sums = []
    trainer.model.register_forward_pre_hook(
        lambda _, args: sums.append([x["image"].sum().item() for x in args[0]])
    )
    try:
        trainer.train()
    except MemoryError:
        close_running_loaders()
    return sums


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_with_all_training_aids_resumes_exactly(tmp_path, workers):
    """Mosaic, mixup, copy-paste, accumulation and EMA, killed while images are still mixed."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train_with_aids(whole, 0)
    assert [len(part) for part in expected] == [2] * 20  # two parts for each of 10 iterations
    found = train_with_aids(parts, workers, kill_at=4)
    found += train_with_aids(parts, workers, resume=True)
    assert found == expected
    for name in ("model_final.pth", "model_final_ema.pth"):
        got, want = (
            torch.load(folder / name, weights_only=True)["model"] for folder in (parts, whole)
        )
        assert all(torch.equal(got[key], want[key]) for key in want)


def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, uninterrupted):
    done = run(command(tmp_path, SOLVER__CHECKPOINT_PERIOD=5))
    assert done.returncode == 0, done.stderr
    newest = tmp_path / "model_final.pth"
    newest.write_bytes(newest.read_bytes()[:5000])
    done = run(command(tmp_path, "--resume"))
    assert done.returncode == 0, done.stderr
    assert "model_final.pth" in done.stdout + done.stderr
    got = weights(tmp_path)
    assert all(torch.equal(got[name], uninterrupted[name]) for name in got)
