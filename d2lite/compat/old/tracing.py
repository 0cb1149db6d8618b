"""Detection of torch.fx tracing; kept for projects, nothing else here depends on it."""

from typing import Any

import torch
from torch.fx import _symbolic_trace

from d2lite.utils.env import TORCH_VERSION as TORCH_VERSION

# Newer releases of torch distinguish symbolic tracing from torch.export, and warn at the old name.
_torch_is_fx_tracing = getattr(
    _symbolic_trace, "is_fx_symbolic_tracing", _symbolic_trace.is_fx_tracing
)


def is_fx_tracing_legacy() -> bool:
    """Return whether a symbolic trace of torch.fx is running; the older name of is_fx_tracing."""
    return is_fx_tracing()


def is_fx_tracing() -> bool:
    """Return whether a symbolic trace of torch.fx is running."""
    return bool(_torch_is_fx_tracing())


def assert_fx_safe(condition: Any, message: str) -> None:
    """Assert a condition, except during torch.fx tracing, where it has no value.

    Args:
        condition: anything with a truth value.
    """
    if not is_fx_tracing():
        torch._assert(condition, message)
