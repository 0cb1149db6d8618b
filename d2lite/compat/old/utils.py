"""Private helpers of detectron2's utilities."""

import os
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist

from d2lite.utils.comm import _gloo_group_of


def _log_api_usage(identifier: str) -> None:
    """Count one use of an API, for torch builds that record such counts."""
    torch._C._log_api_usage_once("d2lite." + identifier)


def _get_global_gloo_group() -> "dist.ProcessGroup":
    """Return a gloo group of all processes; made once."""
    return _gloo_group_of(dist.group.WORLD)


@contextmanager
def _ignore_torch_cuda_oom() -> Iterator[None]:
    """Leave the block quietly when the memory of a GPU is full."""
    with suppress(torch.cuda.OutOfMemoryError):
        yield


def skipIfOnCPUCI(reason: str) -> Callable:
    """Skip a test in continuous integration (CI is set) without a GPU."""
    on_cpu_ci = bool(os.environ.get("CI")) and not torch.cuda.is_available()
    return unittest.skipIf(on_cpu_ci, reason)
