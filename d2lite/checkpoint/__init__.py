"""Reading, converting and writing checkpoints."""

from d2lite.checkpoint import catalog  # registers catalog://
from d2lite.checkpoint.checkpointer import (
    Checkpointer,
    PeriodicCheckpointer,
    find_checkpoint,
    metadata_of,
    model_entries,
    require_loaded,
)
from d2lite.checkpoint.detection_checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import READERS, read_about
from d2lite.checkpoint.writing import save_checkpoint_file

__all__ = [
    "READERS",
    "Checkpointer",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "catalog",
    "find_checkpoint",
    "metadata_of",
    "model_entries",
    "read_about",
    "require_loaded",
    "save_checkpoint_file",
]
