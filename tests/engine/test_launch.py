import sys
import warnings

import pytest
import torch.distributed as dist
from torch import nn

from d2lite.engine import create_ddp_model, launch
from d2lite.utils import comm


def report(folder):
    """Runs in spawned processes: every rank writes what it sees."""
    gathered = comm.all_gather(comm.get_rank() * 10)
    (folder / f"rank{comm.get_rank()}").write_text(
        f"{comm.get_world_size()} {comm.get_local_rank()} {comm.get_local_size()} {gathered}"
    )


def fail():
    raise ValueError("no such dataset")


def test_one_process_is_a_plain_call():
    assert launch(lambda a, b: a + b, 1, args=(2, 3)) == 5
    assert not dist.is_initialized()


def test_two_processes_meet(tmp_path):
    launch(report, 2, args=(tmp_path,))
    assert (tmp_path / "rank0").read_text() == "2 0 2 [0, 10]"
    assert (tmp_path / "rank1").read_text() == "2 1 2 [0, 10]"


def leave():
    sys.exit(3)


def test_workers_that_have_said_why_end_the_program_quietly():
    with pytest.raises(SystemExit) as stop:
        launch(leave, 2)
    assert stop.value.code == 3


def test_error_in_a_worker_reaches_the_caller():
    with pytest.raises(Exception, match="no such dataset"):
        launch(fail, 2)


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
