"""Information about the machine for bug reports: `python -m d2lite.utils.collect_env`."""

import importlib
import os
import platform
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from tabulate import tabulate

_OPTIONAL_PACKAGES = ("fvcore", "iopath", "omegaconf", "cv2", "pycocotools", "timm", "lvis")


def collect_env_info() -> str:
    """Return a table of versions, devices and paths, with torch's build settings below it."""
    rows = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", "")),
        ("numpy", np.__version__),
        ("d2lite", f"{_version('d2lite')} @{Path(__file__).parents[1]}"),
        get_env_module(),
        ("PyTorch", f"{torch.__version__} @{os.path.dirname(torch.__file__)}"),
        ("PyTorch debug build", torch.version.debug),
        ("torchvision", f"{torchvision.__version__} @{os.path.dirname(torchvision.__file__)}"),
        ("CPU threads of PyTorch", str(torch.get_num_threads())),
        ("MPS", "available" if torch.backends.mps.is_available() else "no"),
    ]
    if torch.cuda.is_available():
        devices = defaultdict(list)
        for index in range(torch.cuda.device_count()):
            capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
            devices[f"{torch.cuda.get_device_name(index)} (arch={capability})"].append(str(index))
        rows += [(f"GPU {','.join(indices)}", name) for name, indices in devices.items()]
        rows.append(("CUDA of PyTorch", str(torch.version.cuda)))
        rows.append(("cuDNN", str(torch.backends.cudnn.version())))
    else:
        rows.append(("GPU", "none that PyTorch can use"))
    rows.append(("Pillow", PIL.__version__))
    rows += [(name, _version(name)) for name in _OPTIONAL_PACKAGES]
    return f"{tabulate(rows)}\n{collect_torch_env()}"


def get_env_module() -> tuple[str, str]:
    """Return the name and value of the variable that names the user's module of settings."""
    return "D2LITE_ENV_MODULE", os.environ.get("D2LITE_ENV_MODULE", "<not set>")


def collect_torch_env() -> str:
    """Return the build settings of torch as text."""
    return torch.__config__.show()


def _version(package: str) -> str:
    """Return the version of a package, or why it is missing."""
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        return f"not there ({error})"
    return str(getattr(module, "__version__", "version unknown"))


def test_nccl_ops() -> None:
    """Run one reduction over all GPUs of this machine, and print whether it works."""
    num_gpus = torch.cuda.device_count()
    if num_gpus < 2 or not torch.distributed.is_nccl_available():
        return
    address = f"file:///tmp/d2lite_nccl_test_{os.getpid()}"
    print("Testing NCCL: it should take a few seconds; a hang means that NCCL does not work.")
    torch.multiprocessing.spawn(_reduce_once, nprocs=num_gpus, args=(num_gpus, address))
    print("NCCL works.")


# Not a test for pytest, wherever it is imported.
test_nccl_ops.__test__ = False


def _reduce_once(rank: int, num_gpus: int, address: str) -> None:
    torch.distributed.init_process_group("nccl", address, rank=rank, world_size=num_gpus)
    torch.cuda.set_device(rank)
    torch.distributed.barrier(device_ids=[rank])
    torch.distributed.destroy_process_group()


def main() -> None:
    """Print everything; with several GPUs, also test their connection."""
    print(collect_env_info())
    for index in range(torch.cuda.device_count()):
        try:
            torch.ones(2, 2, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:
            print(f"GPU {index} does not work: {error}")
    test_nccl_ops()


if __name__ == "__main__":
    main()
