import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2lite.utils import comm


def test_single_process_is_rank_0_of_1():
    assert (comm.get_rank(), comm.get_world_size()) == (0, 1)
    assert (comm.get_local_rank(), comm.get_local_size()) == (0, 1)
    assert comm.is_main_process()
    comm.synchronize()


def test_single_process_gathers_its_own_data():
    assert comm.all_gather("x") == ["x"]
    assert comm.gather("x") == ["x"]
    losses = {"loss": torch.tensor(2.0)}
    assert comm.reduce_dict(losses) == losses


def test_shared_random_seed_is_in_range():
    assert 0 <= comm.shared_random_seed() < 2**31


def test_local_group_must_be_created_first():
    with pytest.raises(AssertionError, match="create_local_process_group"):
        comm.get_local_process_group()


def test_two_processes_talk(tmp_path):
    mp.spawn(_check_as_one_of_two, args=(str(tmp_path / "store"),), nprocs=2)


def _check_as_one_of_two(rank, store):
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    os.environ["LOCAL_RANK"] = str(rank)  # as torchrun does
    assert comm.get_local_rank() == rank
    comm.create_local_process_group(2)
    assert comm.get_local_rank() == rank and comm.get_local_size() == 2
    assert comm.get_rank() == rank and comm.is_main_process() == (rank == 0)

    data = {"rank": rank, "rows": list(range(1000 * rank))}  # of unequal size
    assert [x["rank"] for x in comm.all_gather(data)] == [0, 1]
    gathered = comm.gather(data)
    assert [len(x["rows"]) for x in gathered] == ([0, 1000] if rank == 0 else [])
    gathered = comm.gather(data, dst=1)
    assert len(gathered) == (2 if rank == 1 else 0)

    seeds = comm.all_gather(comm.shared_random_seed())
    assert seeds[0] == seeds[1]

    # Entries are matched by name, not by the order in which they were put.
    pairs = [("a", torch.tensor(1.0 + rank)), ("b", torch.tensor(10.0))]
    losses = dict(pairs if rank == 0 else pairs[::-1])
    mean, total = comm.reduce_dict(losses), comm.reduce_dict(losses, average=False)
    if rank == 0:
        assert (mean["a"].item(), mean["b"].item()) == (1.5, 10.0)
        assert (total["a"].item(), total["b"].item()) == (3.0, 20.0)
    comm.synchronize()
    comm.leave_process_groups()
    if os.path.isdir("/proc/self/task"):
        # Threads that outlive their group may abort the process when it ends.
        names = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
        assert not [name for name in names if "gloo" in name]


def test_groups_are_left_while_their_threads_release_tensors():
    process = mp.get_context("spawn").Process(target=_gather_and_leave, args=(20,))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("leaving the groups waits for a thread that waits for the interpreter")
    assert process.exitcode == 0


def _gather_and_leave(times):
    sys.setswitchinterval(1000)  # threads run only while this one waits
    for _ in range(times):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        comm.create_local_process_group(1)
        data = torch.ones(100_000)
        results = [[torch.empty(100_000)] for _ in range(200)]
        works = [dist.all_gather(result, data, async_op=True) for result in results]
        works[-1].wait()
        del works
        del results, data
        comm.leave_process_groups()
