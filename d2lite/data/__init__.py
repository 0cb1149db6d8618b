"""Data sets by name or URI, augmentations, and the loaders that feed a model."""

from . import datasets  # registers the built-in names
from .catalog import DatasetCatalog, Metadata, MetadataCatalog

__all__ = [
    "DatasetCatalog",
    "Metadata",
    "MetadataCatalog",
    "datasets",
]
