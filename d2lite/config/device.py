"""Choice of the device if MODEL.DEVICE is "auto"."""

import functools
import logging

import torch

logger = logging.getLogger(__name__)


def best_device() -> str:
    """Return the best available device: "cuda", else "mps", else "cpu"."""
    if torch.cuda.is_available():
        found = "cuda"
    elif torch.backends.mps.is_available():
        found = "mps"
    else:
        found = "cpu"
    _log_device_once(found)
    return found


@functools.cache
def _log_device_once(device: str) -> None:
    logger.debug("MODEL.DEVICE defaults to %s, the best device found", device)
