"""The state of all random generators of a process."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch


class RandomState(NamedTuple):
    """The states of `random`, `np.random`, torch's CPU generator and optionally a GPU's."""

    python: tuple
    numpy: tuple
    torch: torch.Tensor
    cuda: torch.Tensor | None = None

    @classmethod
    def now(cls, device: torch.device | None = None) -> "RandomState":
        """Return the current states.

        Args:
            device: GPU whose generator is included. Its state is read without synchronization.
        """
        on_gpu = device is not None and device.type == "cuda"
        cuda = torch.cuda.get_rng_state(device) if on_gpu else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self, device: torch.device | None = None) -> None:
        """Set the generators of this process to these states.

        Args:
            device: GPU that gets the stored GPU state.
        """
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None and device is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)

    def as_plain(self) -> dict[str, Any]:
        """Return the states as tensors, numbers and strings, for a file."""
        version, words, gauss = self.python
        name, keys, position, has_gauss, cached = self.numpy
        return {
            "python": (version, torch.tensor(words, dtype=torch.int64), gauss),
            "numpy": (name, torch.tensor(keys.astype(np.int64)), position, has_gauss, cached),
            "torch": self.torch,
            "cuda": self.cuda,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "RandomState":
        """Return the states that `as_plain` converted."""
        version, words, gauss = plain["python"]
        name, keys, *rest = plain["numpy"]
        return cls(
            (version, tuple(words.tolist()), gauss),
            (name, keys.numpy().astype(np.uint32), *rest),
            plain["torch"],
            plain["cuda"],
        )
