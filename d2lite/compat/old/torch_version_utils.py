"""Check of the PyTorch version."""

import torch
from torch.torch_version import TorchVersion


def min_torch_version(min_version: str) -> bool:
    """Return whether PyTorch has at least this version, such as "2.4.1" or "2.4"."""
    # TorchVersion knows that 2.10 is newer than 2.9, and that 2.4.0+cu121 is 2.4.0.
    return TorchVersion(torch.__version__.split("+")[0]) >= min_version
