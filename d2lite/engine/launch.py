"""Start one process per device, or join those started by `torchrun`."""

import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing.spawn import ProcessException

from d2lite.data.loader import close_running_loaders
from d2lite.utils import comm
from d2lite.utils.errors import ProcessDiedError, exit_cause
from d2lite.utils.stop_signals import FORWARDED

DEFAULT_TIMEOUT = timedelta(minutes=30)
logger = logging.getLogger(__name__)

_GRACE = 5.0  # seconds for workers to end after one of them has failed
_FAREWELL = 28.0  # seconds for workers to stop; schedulers kill after 30


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Run `main_func(*args)` in every process of a job.

    Under `torchrun` this process joins the existing ones, and the other arguments are ignored.
    Otherwise this process spawns `num_gpus_per_machine` workers, or calls the function itself if
    the job is a single process. Without CUDA devices the workers run on the CPU and use gloo.

    Args:
        num_gpus_per_machine: number of processes to start on this machine.
        num_machines, machine_rank: number of machines, and the index of this one.
        dist_url: "tcp://HOST:PORT" of the first machine's first process. None or "auto" finds a
            free port, which works on a single machine only.
        timeout: limit of every collective operation.

    Raises:
        ValueError: these processes can't be started on this machine.
        SystemExit: a worker exited, with its exit status; 130 after Ctrl-C, 143 after SIGTERM,
            which are forwarded to the workers.
        RankDiedError: a worker was killed or raised an error; the others were ended.

    Returns:
        The result of `main_func` if it ran in this process, None if it ran in spawned ones.
    """
    under_torchrun = "RANK" in os.environ and "LOCAL_RANK" in os.environ
    if under_torchrun and not dist.is_initialized():
        return _join_and_run(main_func, args, timeout, _store_of_a_restart(timeout))
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"--machine-rank is {machine_rank}; with --num-machines {num_machines} it must be "
            f"from 0 to {num_machines - 1}"
        )
    _check_device_count(num_gpus_per_machine)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    store = None
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ValueError(
                "--dist-url is needed when --num-machines is above 1: give tcp://HOST:PORT of the "
                "first machine, the same on every machine"
            )
        # Opened in this process, because a port that is free now may be taken by the time rank 0
        # has started.
        host = "127.0.0.1"
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout)
        port = store.port
    else:
        host, port = _host_and_port(dist_url)
    environment = {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(num_gpus_per_machine),
    }
    workers = mp.start_processes(
        _spawned_worker,
        nprocs=num_gpus_per_machine,
        args=(
            machine_rank,
            environment,
            multiprocessing.get_start_method(allow_none=True),
            main_func,
            args,
            timeout,
            store is not None,
        ),
        start_method="spawn",
        join=False,
    )
    _wait_for(workers, machine_rank * num_gpus_per_machine)
    return None


class RankDiedError(ProcessException, ProcessDiedError):
    """A spawned rank was killed or raised an error.

    Attributes:
        error_index: its number on this machine.
        error_pid: its process id.
    """


def _wait_for(workers: mp.ProcessContext, first_rank: int) -> None:
    """Wait until all workers have finished, and exit with their status.

    The first SIGINT or SIGTERM is forwarded to them, a second one kills them; SIGUSR1 is forwarded
    to the first of them, which saves a checkpoint.
    """
    received: list[tuple[int, float]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))
        for process in workers.processes:
            if len(received) > 1 or FORWARDED is None:
                process.kill()
            elif process.is_alive():
                # After Ctrl-C in a terminal they already have the signal; a second one is harmless.
                os.kill(process.pid, FORWARDED)

    def save(number: int, frame: FrameType | None) -> None:
        os.kill(workers.processes[0].pid, number)

    handlers = {signal.SIGINT: pass_on, signal.SIGTERM: pass_on}
    if FORWARDED is not None:
        handlers[signal.SIGUSR1] = save
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    failed = None
    try:
        running = {process.sentinel: index for index, process in enumerate(workers.processes)}
        while running and failed is None:
            for sentinel in multiprocessing.connection.wait(running, timeout=1.0):
                index = running.pop(sentinel)
                workers.processes[index].join()
                if workers.processes[index].exitcode != 0 and failed is None:
                    failed = index
            if received and time.monotonic() - received[0][1] > _FAREWELL:
                for process in workers.processes:
                    process.kill()
        if failed is not None:
            _end(workers.processes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed is None:
        return
    if received:
        raise SystemExit(128 + received[0][0])
    raise _reason(workers, failed, first_rank)


def _end(processes: list[BaseProcess]) -> None:
    """End the remaining processes, which may wait forever for the one that has failed."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
        process.join()


def _reason(workers: mp.ProcessContext, index: int, first_rank: int) -> BaseException:
    """Return the error to raise for a failed worker; the first worker has rank `first_rank`."""
    process, error_file = workers.processes[index], Path(workers.error_files[index])
    rank = f"Rank {first_rank + index} (process {process.pid})"
    if error_file.exists():  # of an exception
        text = pickle.loads(error_file.read_bytes())
        error_file.unlink()
        logger.error("%s has failed:\n%s", rank, text.rstrip())
        last = text.rstrip().rpartition("\n")[2]
        message = f"{rank} raised {last}. The traceback is above; the other ranks were ended"
        return RankDiedError(message, index, process.pid)
    if process.exitcode > 0:  # it ended by itself, and has said why
        return SystemExit(process.exitcode)
    cause = exit_cause(process.exitcode)
    hint = ""
    if cause.signal == "SIGKILL":
        hint = (
            "The system does this when memory runs out: lower SOLVER.IMS_PER_BATCH or "
            "DATALOADER.NUM_WORKERS. "
        )
    return RankDiedError(
        f"{rank} {cause.words}. {hint}The other ranks were ended; --resume continues from the last "
        "checkpoint",
        *(index, process.pid),
    )


def _host_and_port(dist_url: str) -> tuple[str, int]:
    scheme, _, address = dist_url.partition("://")
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit():
        raise ValueError(f"--dist-url is {dist_url!r}; expected tcp://HOST:PORT or auto")
    return host, int(port)


def _spawned_worker(
    local_rank, machine_rank, environment, start_method, main_func, args, timeout, has_store
) -> None:
    """Set the variables that torchrun would set, then join the job in the same way."""
    # Otherwise Python would spawn loader workers too, each of which takes seconds to import.
    multiprocessing.set_start_method(start_method, force=True)
    rank = machine_rank * int(environment["LOCAL_WORLD_SIZE"]) + local_rank
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(local_rank))
    store: dict[str, Any] = {}
    if has_store:
        host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        own = dist.TCPStore(host, port, is_master=False, timeout=timeout)
        store = {"store": own, "rank": rank, "world_size": int(environment["WORLD_SIZE"])}
    try:
        _join_and_run(main_func, args, timeout, store)
    finally:
        close_running_loaders()
        # The process ends; a garbage collection of its modules and models would take seconds.
        gc.freeze()


def _check_device_count(num_processes: int) -> None:
    """Check that each process has its own GPU; without any GPU they run on the CPU."""
    if not torch.cuda.is_available() or num_processes <= torch.cuda.device_count():
        return
    raise ValueError(
        f"{num_processes} processes were asked for on this machine (--num-gpus), which has "
        f"{torch.cuda.device_count()} CUDA devices; lower --num-gpus, or hide the GPUs with "
        "CUDA_VISIBLE_DEVICES= to run on the CPU"
    )


def _join_and_run(
    main_func: Callable[..., Any], args: tuple, timeout: timedelta, store: dict[str, Any]
) -> Any:
    """Join the job and run `main_func`; `store` has arguments for `init_process_group`, if any."""
    local_rank = int(os.environ["LOCAL_RANK"])
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    device = None
    _check_device_count(local_world_size)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
    dist.init_process_group(
        "nccl" if device is not None else "gloo",
        timeout=timeout,
        device_id=device,
        **store,
    )
    comm.create_local_process_group(local_world_size)
    try:
        # No process starts to work, and perhaps fails, before all have joined.
        comm.synchronize()
        result = main_func(*args)
    except BaseException:
        logging.shutdown()
        # The threads of the groups may wait for a rank that has died; don't wait for them.
        backends = comm.process_group_backends()  # noqa: F841 (referenced until the process ends)
        dist.destroy_process_group()
        raise
    logging.shutdown()
    comm.leave_process_groups()
    return result


def _store_of_a_restart(timeout: timedelta) -> dict[str, Any]:
    """Return the arguments of `init_process_group` that a restart by torchrun needs.

    All restarts of a job share one store, which still has the addresses of earlier processes: a
    rank that reads one before it is replaced would connect to a process that has died. So each
    restart prefixes its keys with its number. That is done only on a single machine, because
    machines may differ in their number of restarts.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store, rank, world_size = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    own = dist.PrefixStore(f"restart {restarts}", store)
    return {"store": own, "rank": rank, "world_size": world_size}
