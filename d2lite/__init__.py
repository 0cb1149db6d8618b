"""d2lite: detectron2's engine and models, under detectron2's names, in pure Python."""

__all__ = ["__version__"]

__version__ = "0.1.0"
