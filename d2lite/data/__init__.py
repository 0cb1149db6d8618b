"""Datasets by name or URI, augmentations, and the loaders that feed a model."""

from d2lite.data import (
    build,
    catalog,
    common,
    dataset_mapper,
    datasets,
    detection_utils,
    samplers,
    transforms,
)
from d2lite.data.build import (
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from d2lite.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from d2lite.data.common import DatasetFromList, MapDataset
from d2lite.data.dataset_mapper import DatasetMapper

__all__ = [
    "DatasetCatalog",
    "DatasetFromList",
    "DatasetMapper",
    "MapDataset",
    "Metadata",
    "MetadataCatalog",
    "build",
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "catalog",
    "common",
    "dataset_mapper",
    "datasets",
    "detection_utils",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
    "samplers",
    "transforms",
]
