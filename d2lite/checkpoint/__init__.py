"""Reading, converting and writing checkpoints."""

from d2lite.checkpoint import catalog  # registers catalog://
from d2lite.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from d2lite.checkpoint.detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer", "catalog"]
