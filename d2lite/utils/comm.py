"""Communication between the processes of a run; every function also works in a single process.

Objects are sent over a gloo group, so that they need not be on a GPU with any main backend.
"""

import functools
import os
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# The processes on this machine; set once by create_local_process_group.
_LOCAL_PROCESS_GROUP: "dist.ProcessGroup | None" = None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes of the run; 1 if it is not distributed."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Return the index of this process among all; 0 if the run is not distributed."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make one group per machine, for get_local_rank and the like. Every process must call it.

    Raises:
        ValueError: the number of processes is not a multiple of `num_workers_per_machine`.
    """
    global _LOCAL_PROCESS_GROUP
    assert _LOCAL_PROCESS_GROUP is None, "the local process group was already created"
    world_size = get_world_size()
    if world_size % num_workers_per_machine:
        raise ValueError(
            f"{world_size} processes cannot be divided into machines of {num_workers_per_machine}; "
            "start the same number on every machine"
        )
    # new_group is collective: all processes take part in making every group.
    for start in range(0, world_size, num_workers_per_machine):
        ranks = list(range(start, start + num_workers_per_machine))
        group = dist.new_group(ranks)
        if get_rank() in ranks:
            _LOCAL_PROCESS_GROUP = group


def leave_process_groups() -> None:
    """Destroy all process groups, and end their threads.

    A group that is still referenced keeps its threads, and one of them that needs the interpreter
    while that shuts down aborts the process.
    """
    global _LOCAL_PROCESS_GROUP
    # A backend's threads may still be releasing the tensors of the last collectives, for which they
    # need the interpreter lock. In torch 2.6 a group that destroys its backend waits for them while
    # it holds that lock; a backend that is destroyed on its own gives the lock up.
    backends = process_group_backends()
    _LOCAL_PROCESS_GROUP = None
    _gloo_group_of.cache_clear()
    dist.destroy_process_group()
    del backends


def process_group_backends() -> list[Any]:
    """Return the backends of all process groups; they live on for as long as the list does."""
    groups = dist.distributed_c10d._world.pg_map
    return [group._get_backend(device) for group in groups for device in group._device_types]


def get_local_process_group() -> "dist.ProcessGroup":
    """Return the group of the processes on this machine, for collectives within it."""
    assert _LOCAL_PROCESS_GROUP is not None, (
        "there is no local process group: start through d2lite.engine.launch, or call "
        "create_local_process_group after init_process_group"
    )
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Return the index of this process on its machine, which is also the index of its GPU."""
    if not _is_distributed():
        return 0
    if _LOCAL_PROCESS_GROUP is None and "LOCAL_RANK" in os.environ:  # set by torchrun
        return int(os.environ["LOCAL_RANK"])
    return dist.get_rank(group=get_local_process_group())


def get_local_size() -> int:
    """Return the number of processes on this machine."""
    if not _is_distributed():
        return 1
    if _LOCAL_PROCESS_GROUP is None and "LOCAL_WORLD_SIZE" in os.environ:  # set by torchrun
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return dist.get_world_size(group=get_local_process_group())


def synchronize() -> None:
    """Wait until every process has reached this point."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        # Without the device, NCCL guesses it from the rank, which is wrong on a second machine.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.cache
def _gloo_group_of(default_group: "dist.ProcessGroup") -> "dist.ProcessGroup":
    """Return a gloo group of all processes, cached by the default group that it belongs to."""
    if dist.get_backend() == dist.Backend.GLOO:
        return default_group
    return dist.new_group(backend="gloo")


def _object_group(group: "dist.ProcessGroup | None") -> "dist.ProcessGroup":
    return _gloo_group_of(dist.group.WORLD) if group is None else group


def all_gather(data: Any, group: "dist.ProcessGroup | None" = None) -> list[Any]:
    """Collect one picklable object from every process, in all of them.

    Args:
        data: any picklable object, of any size.
        group: a gloo group; all processes by default.
    Returns:
        list of the objects by rank.
    """
    if get_world_size() == 1:
        return [data]
    group = _object_group(group)
    collected = [None] * dist.get_world_size(group)
    dist.all_gather_object(collected, data, group=group)
    return collected


def gather(data: Any, dst: int = 0, group: "dist.ProcessGroup | None" = None) -> list[Any]:
    """Collect one picklable object from every process, in process `dst` only.

    Returns:
        list of the objects by rank in process `dst`; an empty list in the others.
    """
    if get_world_size() == 1:
        return [data]
    group = _object_group(group)
    if dist.get_rank() != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    collected = [None] * dist.get_world_size(group)
    dist.gather_object(data, collected, dst=dst, group=group)
    return collected


def leave_together(occasion: str, seconds: float = 25.0) -> None:
    """Make the other processes wait for process 0, which calls this when its work is saved.

    This is not a barrier: some processes may be in a collective call that will never finish. The
    launcher ends all processes when one of them ends.

    Args:
        occasion: name of what they wait for, the same in all processes.
        seconds: how long they wait at most.
    """
    if get_world_size() == 1:
        return
    store = dist.distributed_c10d._get_default_store()
    if is_main_process():
        store.set(occasion, "done")
        return
    deadline, failures = time.monotonic() + seconds, 0
    # Polled, because a signal would interrupt a blocking wait.
    while time.monotonic() < deadline and failures < 10:
        try:
            if store.check([occasion]):
                return
            failures = 0
        except RuntimeError:  # process 0 has ended, or a signal arrived
            failures += 1
        time.sleep(0.1)


def max_over_ranks(values: list[int]) -> list[int]:
    """Return the elementwise maximum over all processes, in a single fast collective call."""
    if get_world_size() == 1:
        return values
    greatest = torch.tensor(values)
    dist.all_reduce(greatest, dist.ReduceOp.MAX, group=_object_group(None))
    return greatest.tolist()


def shared_random_seed() -> int:
    """Return a random number in [0, 2**31), the same in all processes. It is a collective call."""
    return all_gather(int(np.random.randint(2**31)))[0]


@torch.no_grad()
def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict:
    """Average (or sum) scalar tensors over the processes, by name; only rank 0 gets the result.

    Args:
        input_dict: 0-d tensors by name; all processes must have the same names.
        average: divide the sum by the number of processes.
    Returns:
        dict with the same names; only valid in process 0.
    """
    world_size = get_world_size()
    if world_size < 2 or not input_dict:
        return input_dict
    names = sorted(input_dict)  # the same order everywhere
    values = torch.stack([input_dict[name] for name in names])  # (names,)
    dist.reduce(values, dst=0)
    if average and is_main_process():
        values = values / world_size
    return dict(zip(names, values, strict=True))
