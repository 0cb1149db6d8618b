"""d2lite: detectron2's engine and models, under detectron2's names, in pure Python."""

import warnings

__all__ = ["__version__"]

__version__ = "0.1.0"

# fvcore compiles two of its losses with torch.jit on import. We use neither, and nobody who starts
# a training can do anything about the warning.
warnings.filterwarnings(
    "ignore", message=r".*`torch\.jit\.script` is deprecated", category=FutureWarning
)

# Last, since it looks at every module that is imported after it.
from d2lite.compat import names as _names  # noqa: E402, F401
