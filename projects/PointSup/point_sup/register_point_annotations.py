"""Datasets with labeled points."""

import os

import numpy as np

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.builtin import datasets_root
from d2lite.data.datasets.builtin_meta import get_builtin_metadata
from d2lite.data.datasets.coco import load_coco_json
from d2lite.structures import BoxMode

from .annotations import sample_point_annotation

# Name -> image folder and annotation file below the folder of datasets.
_SPLITS = {
    "coco_2017_train_points_n10_v1_without_masks": (
        "coco/train2017",
        "coco/annotations/instances_train2017_n10_v1_without_masks.json",
    ),
}
_SHAPES_POINTS = 10


def register_coco_instances_with_points(
    name: str, metadata: dict, json_file: str, image_root: str
) -> None:
    """Register a COCO-style dataset whose annotations have points; it is read when it is used.

    In place of "segmentation", an annotation has "point_coords", pairs of x and y, which are pixel
    indices, and "point_labels", 1 for points on the object and 0 for others.

    Args:
        name: name of the dataset, such as "my_train".
        metadata: additional metadata; may be empty.
        json_file: the annotation file.
        image_root: the folder with the images.
    """
    assert isinstance(name, str), f"a dataset name is a string, not {name!r}"
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    DatasetCatalog.register(
        name, lambda: load_coco_json(json_file, image_root, name, ["point_coords", "point_labels"])
    )
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def register_all_coco_train_points(root: str) -> None:
    """Register the files of `tools/prepare_coco_point_annotations_without_masks.py`.

    Args:
        root: the folder of datasets.
    """
    for name, (image_root, json_file) in _SPLITS.items():
        register_coco_instances_with_points(
            name,
            get_builtin_metadata("coco"),
            os.path.join(root, json_file),
            os.path.join(root, image_root),
        )


def register_shapes_points() -> None:
    """Register `shapes_points_train`: the built-in shapes with ten points each and no masks."""
    metadata = MetadataCatalog.get("shapes_train").as_dict()
    DatasetCatalog.register("shapes_points_train", _load_shapes)
    MetadataCatalog.get("shapes_points_train").set(**{**metadata, "name": "shapes_points_train"})


def _load_shapes() -> list[dict]:
    records = DatasetCatalog.get("shapes_train")
    for record in records:
        generator = np.random.default_rng(record["image_id"])
        for anno in record["annotations"]:
            box = BoxMode.convert(anno["bbox"], anno["bbox_mode"], BoxMode.XYWH_ABS)
            points = sample_point_annotation(
                anno.pop("segmentation"),
                box,
                (record["height"], record["width"]),
                _SHAPES_POINTS,
                generator,
            )
            anno.update(points)
    return records


register_all_coco_train_points(datasets_root())
register_shapes_points()
