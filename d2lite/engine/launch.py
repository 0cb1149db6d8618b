"""Start one process per device, or join those that `torchrun` has started."""

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2lite.utils import comm
from d2lite.utils.stop_signals import FORWARDED

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)
_FAREWELL = 28.0  # seconds that workers have to stop; schedulers kill after 30


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
        SystemExit: a worker ended itself, with its exit status; 130 after Ctrl-C, 143 after
            SIGTERM, which are passed on to the workers.

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
    """Wait until all workers have finished; end this process as they end.

    A first SIGINT or SIGTERM is passed on to them, a second one ends them; SIGUSR1 goes to the
    first of them, which saves.
    """
    received: list[tuple[int, float]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))
        for process in workers.processes:
            if len(received) > 1 or FORWARDED is None:
                process.kill()
            elif process.is_alive():
                # Where the signal came from a terminal they have it already; this one does no harm.
                os.kill(process.pid, FORWARDED)

    def save(number: int, frame: FrameType | None) -> None:
        os.kill(workers.processes[0].pid, number)

    handlers = {signal.SIGINT: pass_on, signal.SIGTERM: pass_on}
    if FORWARDED is not None:
        handlers[signal.SIGUSR1] = save
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        while not workers.join(timeout=1.0):
            if received and time.monotonic() - received[0][1] > _FAREWELL:
                for process in workers.processes:
                    process.kill()
    except mp.ProcessExitedException as stopped:
        if received:
            raise SystemExit(128 + received[0][0]) from None
        if stopped.exit_code > 0:  # it ended by itself, and has said why
            raise SystemExit(stopped.exit_code) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    try:
        _join_and_run(main_func, args, timeout)
    finally:
        # The process ends: looking for garbage among its modules and models would take seconds.
        gc.freeze()


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
