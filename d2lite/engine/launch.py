"""Start one process per device, or join those that `torchrun` has started."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2lite.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)
_FAREWELL = 20.0  # seconds that a worker has to stop after Ctrl-C


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Run `main_func(*args)` once in every process of a job.

    Under `torchrun` the processes exist already and this one joins them; the other arguments
    are then torchrun's affair. Otherwise this process spawns `num_gpus_per_machine` workers, or
    calls the function itself when the job is a single process. Without CUDA devices the workers
    run on the CPU and talk through gloo.

    Args:
        num_gpus_per_machine: processes to start on this machine.
        num_machines, machine_rank: how many machines take part, and which this one is (from 0).
        dist_url: "tcp://HOST:PORT" of the first machine's first process. None or "auto" finds a
            free port, which works on a single machine only.
        timeout: of every collective operation.

    Raises:
        ValueError: these processes cannot be started on this machine.
        SystemExit: a worker ended itself, with its exit status; 130 after Ctrl-C.

    Returns:
        What `main_func` returns if it ran in this process, None if it ran in spawned ones.
    """
    if _under_torchrun():
        return _join_and_run(main_func, args, timeout)
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"--machine-rank is {machine_rank}; with --num-machines {num_machines} it has to be "
            f"from 0 to {num_machines - 1}"
        )
    _check_device_count(num_gpus_per_machine)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    host, port = _rendezvous(dist_url, num_machines)
    environment = {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(num_gpus_per_machine),
    }
    workers = mp.start_processes(
        _spawned_worker,
        nprocs=num_gpus_per_machine,
        args=(machine_rank, environment, main_func, args, timeout),
        start_method="spawn",
        join=False,
    )
    _wait_for(workers)
    return None


def _wait_for(workers: mp.ProcessContext) -> None:
    """Wait until all workers have finished; end this process as they end."""
    try:
        while not workers.join():
            pass
    except mp.ProcessExitedException as stopped:
        if stopped.exit_code > 0:  # it ended by itself, and has said why
            raise SystemExit(stopped.exit_code) from None
        raise
    except KeyboardInterrupt:
        # Ctrl-C has reached the workers too: they save what they write, and answer it.
        for process in workers.processes:
            process.join(timeout=_FAREWELL)
            process.terminate()
        raise SystemExit(130) from None


def _under_torchrun() -> bool:
    return "RANK" in os.environ and "LOCAL_RANK" in os.environ and not dist.is_initialized()


def _rendezvous(dist_url: str | None, num_machines: int) -> tuple[str, int]:
    """Host and port at which the processes meet."""
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ValueError(
                "--dist-url is needed when --num-machines is above 1: give tcp://HOST:PORT of the "
                "first machine, the same on every machine"
            )
        return "127.0.0.1", _free_port()
    scheme, _, address = dist_url.partition("://")
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit():
        raise ValueError(f"--dist-url is {dist_url!r}; expected tcp://HOST:PORT or auto")
    return host, int(port)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _spawned_worker(local_rank, machine_rank, environment, main_func, args, timeout):
    """What torchrun would set, then the same way in."""
    rank = machine_rank * int(environment["LOCAL_WORLD_SIZE"]) + local_rank
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(local_rank))
    _join_and_run(main_func, args, timeout)


def _check_device_count(num_processes: int) -> None:
    """Without any GPU the processes run on the CPU; otherwise each needs one of its own."""
    if not torch.cuda.is_available() or num_processes <= torch.cuda.device_count():
        return
    raise ValueError(
        f"{num_processes} processes were asked for on this machine (--num-gpus), which has "
        f"{torch.cuda.device_count()} CUDA devices; lower --num-gpus, or hide the GPUs with "
        "CUDA_VISIBLE_DEVICES= to run on the CPU"
    )


def _join_and_run(main_func: Callable[..., Any], args: tuple, timeout: timedelta) -> Any:
    local_rank = int(os.environ["LOCAL_RANK"])
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    device = None
    _check_device_count(local_world_size)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
    dist.init_process_group(
        "nccl" if device is not None else "gloo", timeout=timeout, device_id=device
    )
    comm.create_local_process_group(local_world_size)
    try:
        # Nobody starts work, and maybe fails, before all have arrived.
        comm.synchronize()
        return main_func(*args)
    finally:
        logging.shutdown()
        dist.destroy_process_group()
