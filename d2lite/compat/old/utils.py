"""Private helpers of detectron2's utilities."""

import os
import re
import subprocess
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist

from d2lite.utils.comm import _gloo_group_of


def _log_api_usage(identifier: str) -> None:
    """Record the use of an API, for torch builds that collect usage counts."""
    torch._C._log_api_usage_once("d2lite." + identifier)


def _get_global_gloo_group() -> "dist.ProcessGroup":
    """Return a gloo group of all processes, which is created once."""
    return _gloo_group_of(dist.group.WORLD)


@contextmanager
def _ignore_torch_cuda_oom() -> Iterator[None]:
    """Suppress errors in the block that are caused by full GPU memory."""
    with suppress(torch.cuda.OutOfMemoryError):
        yield


def skipIfOnCPUCI(reason: str) -> Callable:
    """Skip a test in continuous integration (CI is set) without a GPU."""
    on_cpu_ci = bool(os.environ.get("CI")) and not torch.cuda.is_available()
    return unittest.skipIf(on_cpu_ci, reason)


def detect_compute_compatibility(CUDA_HOME: str, so_file: str) -> str:
    """Return the GPU architectures supported by a compiled library, such as "7.0, 8.0".

    Args:
        CUDA_HOME: folder of the CUDA toolkit, whose cuobjdump is used.
        so_file: path of the library.
    """
    program = os.path.join(CUDA_HOME, "bin", "cuobjdump")
    if not os.path.isfile(program):
        return f"{so_file}; cannot find cuobjdump in {CUDA_HOME}/bin"
    listing = subprocess.run(
        [program, "--list-elf", so_file], capture_output=True, text=True, check=True
    ).stdout
    found = {f"{major}.{minor}" for major, minor in re.findall(r"\.sm_(\d+)(\d)\.", listing)}
    return ", ".join(sorted(found, key=float))


def fixup_module_metadata(
    module_name: str, namespace: dict[str, Any], keys: list[str] | None = None
) -> None:
    """Make objects appear as defined in `module_name`, from which users should import them.

    Args:
        module_name: the public module.
        namespace: its globals().
        keys: the names to change; by default, all that do not start with an underscore.
    """
    if keys is None:
        keys = [key for key in namespace if not key.startswith("_")]
    for key in keys:
        _set_module(namespace[key], key, module_name, seen=set())


def _set_module(obj: Any, qualname: str, module_name: str, seen: set[int]) -> None:
    root = module_name.split(".")[0]
    if id(obj) in seen or not str(getattr(obj, "__module__", "")).startswith(root + "."):
        return
    seen.add(id(obj))
    obj.__module__ = module_name
    if isinstance(obj, type):
        obj.__qualname__ = qualname
        for name, member in list(vars(obj).items()):
            if callable(member):
                _set_module(member, f"{qualname}.{name}", module_name, seen)
