import multiprocessing
import os
import signal
import sys
import time
import warnings

import pytest
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessException

from d2lite.engine import create_ddp_model, launch
from d2lite.engine.launch import RankDiedError
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors


def report(folder):
    """Runs in spawned processes: every rank writes what it sees."""
    gathered = comm.all_gather(comm.get_rank() * 10)
    (folder / f"rank{comm.get_rank()}").write_text(
        f"{comm.get_world_size()} {comm.get_local_rank()} {comm.get_local_size()} {gathered} "
        f"{multiprocessing.get_start_method()}"
    )


def fail():
    raise ValueError("no such dataset")


def test_one_process_is_a_plain_call():
    assert launch(lambda a, b: a + b, 1, args=(2, 3)) == 5
    assert not dist.is_initialized()


def test_two_processes_meet(tmp_path):
    launch(report, 2, args=(tmp_path,))
    # Loaders start their workers as in a single process.
    method = multiprocessing.get_start_method()
    assert (tmp_path / "rank0").read_text() == f"2 0 2 [0, 10] {method}"
    assert (tmp_path / "rank1").read_text() == f"2 1 2 [0, 10] {method}"


def leave():
    sys.exit(3)


def test_workers_that_have_said_why_end_the_program_quietly():
    with pytest.raises(SystemExit) as stop:
        launch(leave, 2)
    assert stop.value.code == 3


def fail_alone(folder):
    """Rank 1 fails; rank 0 would wait for it for ever, and for no signal."""
    if comm.get_rank() == 1:
        raise ArithmeticError("no such number")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def die_alone(folder):
    (folder / f"pid{comm.get_rank()}").write_text(str(os.getpid()))
    comm.synchronize()
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def test_error_in_a_worker_reaches_the_caller(caplog):
    with pytest.raises(
        RankDiedError, match=r"^Rank [01] \(process \d+\) raised ValueError: no such dataset\. .*"
    ) as error:
        launch(fail, 2)
    assert "\n" not in str(error.value)
    assert "in fail" in caplog.text  # the traceback
    assert isinstance(error.value, ProcessException)  # as detectron2's raises


def is_gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_other_ranks_end_with_the_one_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[RankDiedError.__module__], "_GRACE", 1.0)
    with pytest.raises(RankDiedError, match=r"Rank 1 .* raised ArithmeticError: no such number"):
        launch(fail_alone, 2, args=(tmp_path,))
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_killed_rank_is_told_with_its_signal(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop, report_user_errors():
        launch(die_alone, 2, args=(tmp_path,))
    assert stop.value.code == 1
    told = capsys.readouterr().err.splitlines()[0]
    process = (tmp_path / "pid1").read_text()
    assert f"Rank 1 (process {process}) was killed by SIGKILL. " in told
    assert "memory runs out" in told and "--resume" in told
    assert is_gone(int((tmp_path / "pid0").read_text()))


def wrap(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = create_ddp_model(nn.BatchNorm1d(2), broadcast_buffers=False)
    (folder / f"rank{comm.get_rank()}").write_text(f"{model.broadcast_buffers}")


def test_models_are_wrapped_without_a_warning(tmp_path):
    launch(wrap, 2, args=(tmp_path,))
    assert [(tmp_path / f"rank{i}").read_text() for i in range(2)] == ["False", "False"]


@pytest.mark.parametrize(
    "url, machines, message",
    [("auto", 2, "--dist-url is needed"), ("localhost", 1, "expected tcp://HOST:PORT")],
)
def test_bad_meeting_points_are_explained(url, machines, message):
    with pytest.raises(ValueError, match=message):
        launch(fail, 2, num_machines=machines, dist_url=url)
