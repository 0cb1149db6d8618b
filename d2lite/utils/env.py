"""The environment of a process: random seeds, versions, and a module with user settings."""

import functools
import importlib
import importlib.util
import logging
import os
import random
import sys
from datetime import datetime
from types import ModuleType

import numpy as np
import torch

TORCH_VERSION: tuple[int, int] = tuple(int(x) for x in torch.__version__.split(".")[:2])
"""(major, minor) of PyTorch."""

DOC_BUILDING: bool = bool(os.getenv("_DOC_BUILDING"))
"""Whether the documentation is being built; optional packages may be missing then."""

# The first one that is set names the user's module; the second is detectron2's variable.
_ENV_MODULE_VARIABLES = ("D2LITE_ENV_MODULE", "DETECTRON2_ENV_MODULE")


def seed_all_rng(seed: int | None = None) -> None:
    """Seed the generators of torch (all devices), numpy and random, and new processes' hashes.

    Args:
        seed: any integer; numpy takes it modulo 2**32. None: a seed from time, process and system,
            which is logged so that the run can be repeated.
    """
    if seed is None:
        clock = int(datetime.now().strftime("%S%f"))
        seed = os.getpid() + clock + int.from_bytes(os.urandom(2), "big")
        logging.getLogger(__name__).info("Using a random seed: %d", seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    random.seed(seed)
    # PYTHONHASHSEED is only read at startup, so this affects new processes, not this one.
    os.environ["PYTHONHASHSEED"] = str(seed % 2**32)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed all generators for one training step of one process.

    The random numbers of a step then depend only on these three, so that a run that is stopped and
    resumed ends with the same weights.
    """
    seed_all_rng(int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0]))


@functools.cache  # runs once
def setup_environment() -> None:
    """Run the user's settings, once per process.

    The environment variable D2LITE_ENV_MODULE (or DETECTRON2_ENV_MODULE) names a module, or a path
    to a .py file, that has a function `setup_environment()`.
    """
    for variable in _ENV_MODULE_VARIABLES:
        if os.environ.get(variable):
            setup_custom_environment(os.environ[variable])
            return


def setup_custom_environment(custom_module: str) -> None:
    """Import a module by name or by .py path, and call its `setup_environment()`.

    Raises:
        AttributeError: it has no such function.
    """
    if custom_module.endswith(".py"):
        module = _import_file("d2lite.utils.env.custom_module", custom_module)
    else:
        module = importlib.import_module(custom_module)
    if not callable(getattr(module, "setup_environment", None)):
        raise AttributeError(
            f"{custom_module}, named by {' or '.join(_ENV_MODULE_VARIABLES)}, has no function "
            "setup_environment(); define it there"
        )
    module.setup_environment()


def _import_file(module_name: str, path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
