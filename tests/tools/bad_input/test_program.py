"""Tracebacks, exit codes and stop signals of train_net.py."""

import os
import re
import signal
import subprocess

import pytest
import torch

from d2lite.engine import launch
from d2lite.utils import comm
from tests.engine.tiny import command, run, started
from tests.tools.bad_input.runs import STARTED, train_net, train_on


def test_the_way_to_an_error_is_shown_on_request(main, monkeypatch):
    monkeypatch.setenv("D2LITE_TRACEBACK", "1")
    with pytest.raises(KeyError, match="shapes_trian"):
        main(DATASETS__TRAIN=("shapes_trian",))


def test_the_batch_is_shared_by_the_processes(main, good, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    outcome = main(SOLVER__IMS_PER_BATCH=3, **train_on(good))
    assert outcome.code == 1 and not outcome.started
    message = r"^process 0: ArgumentError: SOLVER\.IMS_PER_BATCH .* is 3; .* number of processes, 2"
    assert re.search(message, outcome.error), outcome.error


def test_a_real_command_line(tmp_path):
    done = run(command(tmp_path, DATASETS__TRAIN=("shapes_trian",)))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(
        r"UnknownNameError: dataset 'shapes_trian' is not registered\. .*\n\(set D2.*\)\n",
        done.stderr,
    ), done.stderr


def test_more_processes_than_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"2 processes .* \(--num-gpus\), which has 1 CUDA dev"):
        launch(print, 2)
    with pytest.raises(ValueError, match=r"--machine-rank is 2; with --num-machines 2 .* 0 to 1"):
        launch(print, 1, num_machines=2, machine_rank=2, dist_url="tcp://localhost:1")


def interrupt(good, folder, number, after: str, **changes) -> subprocess.CompletedProcess:
    """Send a signal to all processes, as a terminal does, when `after` was printed."""
    arguments = command(folder, SOLVER__MAX_ITER=100000, **train_on(good), **changes)
    with started(
        arguments, folder / "out.txt", folder / "err.txt", until=after, seconds=120
    ) as process:
        os.killpg(process.pid, number)
        code = process.wait(timeout=60)
    texts = [(folder / name).read_text() for name in ("out.txt", "err.txt")]
    return subprocess.CompletedProcess(arguments, code, *texts)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_keeps_the_work_and_says_how_to_go_on(good, tmp_path, number, code):
    done = interrupt(good, tmp_path, number, STARTED, DATALOADER__NUM_WORKERS=2)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    told = re.search(
        r"Stopped at iteration (\d+) of 100000\. The last checkpoint is (\S+model_(\d{7})\.pth); "
        r"the same command with --resume continues\.",
        done.stderr if number == signal.SIGINT else done.stdout,
    )
    assert told, done.stdout + done.stderr
    assert told[1] == str(int(told[3])) and os.path.isfile(told[2])


def test_ctrl_c_before_the_first_checkpoint(main, good, monkeypatch):
    def stop(self):
        if self.iter == 1:
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(train_net.Trainer, "run_step", stop)
    outcome = main(SOLVER__CHECKPOINT_PERIOD=100, **train_on(good))
    assert outcome.code == 130
    assert outcome.err.strip() == (
        "Stopped at iteration 1 of 2. No checkpoint was saved yet "
        "(SOLVER.CHECKPOINT_PERIOD is 100)."
    )
