"""Recovery from full GPU memory."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

logger = logging.getLogger(__name__)


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Wrap `func` so that it survives a full GPU: empty the cache and retry, then use the CPU.

        masks = retry_if_cuda_oom(paste_masks_in_image)(masks, boxes, image_shape)

    `func` must not keep state: it may be called up to three times. On the last try, tensors among
    its arguments (top level only) are copied to the CPU; the results stay there.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return func(*args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            # Leave the handler before retrying: it keeps the failed call's tensors alive.
            pass
        torch.cuda.empty_cache()
        try:
            return func(*args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            pass
        name = getattr(func, "__qualname__", repr(func))
        logger.warning("GPU memory is full: running %s on the CPU, which is slower", name)
        args = tuple(_to_cpu(x) for x in args)
        return func(*args, **{key: _to_cpu(x) for key, x in kwargs.items()})

    return wrapped


def _to_cpu(x: Any) -> Any:
    """Return a tensor or a structure with `.to`, on the CPU when it was on a GPU; others
    unchanged."""
    device = getattr(x, "device", None)
    if isinstance(device, torch.device) and device.type == "cuda" and hasattr(x, "to"):
        return x.to(device="cpu")
    return x
