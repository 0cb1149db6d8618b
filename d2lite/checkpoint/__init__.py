"""Reading, converting and writing checkpoints."""

from d2lite.checkpoint import catalog  # registers catalog://
from d2lite.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from d2lite.checkpoint.detection_checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import READERS
from d2lite.checkpoint.writing import save_checkpoint_file

__all__ = [
    "READERS",
    "Checkpointer",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "catalog",
    "save_checkpoint_file",
]
