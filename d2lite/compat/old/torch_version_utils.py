"""Asking for a version of PyTorch."""

import torch
from torch.torch_version import TorchVersion


def min_torch_version(min_version: str) -> bool:
    """Return whether PyTorch is of this version or newer; "2.4.1" and "2.4" are understood."""
    # TorchVersion knows that 2.10 is above 2.9, and that 2.4.0+cu121 is 2.4.0.
    return TorchVersion(torch.__version__.split("+")[0]) >= min_version
