"""COCO panoptic data: every pixel belongs to a segment, and every segment has a category.

A dataset can be registered in two forms. In the standard form, things and stuff share one list of
classes, and a dict has the panoptic image. In the separated form (Panoptic FPN), a dict has
instances and a semantic image in which all things are class 0.
"""

import os
from functools import partial
from typing import Any

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco import load_coco_json, load_sem_seg
from d2lite.data.datasets.coco_json import check_image_folder, dataset_errors, read_json, section
from d2lite.utils.errors import quoted


def load_coco_panoptic_json(
    json_file: str, image_dir: str, gt_dir: str, meta: dict[str, Any]
) -> list[dict]:
    """Load a COCO panoptic file as dataset dicts, in file order.

    Args:
        json_file: panoptic JSON file.
        image_dir: folder of the JPEG images.
        gt_dir: folder of the PNG images of segment ids.
        meta: has `thing_dataset_id_to_contiguous_id` and `stuff_dataset_id_to_contiguous_id`.
    Returns:
        dicts with `file_name`, `image_id`, `pan_seg_file_name` and `segments_info`, in which
        `category_id` is contiguous and `isthing` tells in which table of `meta` it is.
    Raises:
        FileNotFoundError, ValueError: as `load_coco_json`.
    """
    data = read_json(json_file)
    with dataset_errors(json_file):
        return _records(data, json_file, image_dir, gt_dir, meta)


def _records(
    data: Any, json_file: str, image_dir: str, gt_dir: str, meta: dict[str, Any]
) -> list[dict]:
    """Return the dataset dicts of a parsed file."""
    rows = section(data, "annotations", json_file)
    records = []
    for index, row in enumerate(rows):
        if not {"image_id", "file_name", "segments_info"} <= row.keys():
            raise ValueError(
                f"{json_file}: annotation number {index} lacks one of 'image_id', 'file_name' and "
                "'segments_info'; is this a panoptic file?"
            )
        if not isinstance(row["image_id"], int) and not str(row["image_id"]).isdecimal():
            raise ValueError(
                f"{json_file}: annotation number {index} has image_id {quoted(row['image_id'])}; "
                "expected a whole number"
            )
        if not isinstance(row["file_name"], str):
            raise ValueError(
                f"{json_file}: annotation number {index} has file_name {quoted(row['file_name'])}; "
                "expected a string"
            )
        if not isinstance(row["segments_info"], list):
            raise ValueError(f"{json_file}: 'segments_info' of {row['file_name']} is not a list")
        stem = os.path.splitext(row["file_name"])[0]
        records.append(
            {
                "file_name": os.path.join(image_dir, f"{stem}.jpg"),
                "image_id": int(row["image_id"]),
                "pan_seg_file_name": os.path.join(gt_dir, row["file_name"]),
                "segments_info": [
                    contiguous_segment(s, meta, json_file) for s in row["segments_info"]
                ],
            }
        )
    if records:
        check_image_folder(image_dir, records[0]["file_name"], json_file)
        check_image_folder(gt_dir, records[0]["pan_seg_file_name"], json_file)
    return records


def contiguous_segment(segment: dict, meta: dict[str, Any], json_file: str) -> dict:
    """Return a copy of a segment with `isthing` and a contiguous `category_id`.

    Raises:
        ValueError: the segment is malformed, or its category is unknown.
    """
    category = segment.get("category_id") if isinstance(segment, dict) else None
    if not isinstance(category, int) or not isinstance(segment.get("id"), int):
        raise ValueError(
            f"{json_file}: a segment is {segment!r:.100}; expected whole numbers for 'id' and "
            "'category_id'"
        )
    if segment.get("iscrowd", 0) not in (0, 1):
        raise ValueError(
            f"{json_file}: segment {segment['id']} has iscrowd {quoted(segment['iscrowd'])}; "
            "expected 0 or 1"
        )
    for isthing, key in ((True, "thing"), (False, "stuff")):
        table = meta[f"{key}_dataset_id_to_contiguous_id"]
        if category in table:
            return {**segment, "category_id": table[category], "isthing": isthing}
    raise ValueError(
        f"{json_file}: segment {segment.get('id')} has category_id {category}, which is neither "
        "a thing nor a stuff category of the metadata"
    )


def register_coco_panoptic(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register a panoptic dataset in the standard form.

    Args:
        name: such as "coco_2017_train_panoptic".
        metadata: classes and the two id tables.
        image_root: folder of the JPEG images.
        panoptic_root: folder of the PNG images of segment ids.
        panoptic_json: panoptic JSON file.
        instances_json: instance JSON file of the same images, for evaluating boxes and masks.
    """
    DatasetCatalog.register(
        name, partial(load_coco_panoptic_json, panoptic_json, image_root, panoptic_root, metadata)
    )
    MetadataCatalog.get(name).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        **metadata,
    )


def register_coco_panoptic_separated(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register `NAME_separated` (instances and semantic labels) and `NAME_stuffonly` (labels).

    Args:
        name: such as "coco_2017_train_panoptic".
        metadata: classes and the two id tables, in which stuff class 0 is all things.
        image_root: folder of the JPEG images.
        panoptic_root: folder of the PNG images of segment ids (for evaluation).
        panoptic_json: panoptic JSON file (for evaluation).
        sem_seg_root: folder of the semantic label images.
        instances_json: instance JSON file.
    """
    separated, stuff_only = f"{name}_separated", f"{name}_stuffonly"
    DatasetCatalog.register(
        separated, partial(_load_separated, instances_json, image_root, sem_seg_root, separated)
    )
    MetadataCatalog.get(separated).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        sem_seg_root=sem_seg_root,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        **metadata,
    )
    DatasetCatalog.register(stuff_only, partial(load_sem_seg, sem_seg_root, image_root))
    MetadataCatalog.get(stuff_only).set(
        sem_seg_root=sem_seg_root,
        image_root=image_root,
        evaluator_type="sem_seg",
        ignore_label=255,
        **metadata,
    )


def merge_to_panoptic(detection_dicts: list[dict], sem_seg_dicts: list[dict]) -> list[dict]:
    """Join instance dicts with the semantic dicts of the same `file_name`.

    Raises:
        ValueError: an image has instances but no semantic labels.
    """
    labels = {record["file_name"]: record for record in sem_seg_dicts}
    missing = [d["file_name"] for d in detection_dicts if d["file_name"] not in labels]
    if missing:
        raise ValueError(
            f"{missing[0]}: has instance annotations but no semantic label image "
            f"({len(missing)} such images)"
        )
    return [{**record, **labels[record["file_name"]]} for record in detection_dicts]


def _load_separated(
    instances_json: str, image_root: str, sem_seg_root: str, name: str
) -> list[dict]:
    return merge_to_panoptic(
        load_coco_json(instances_json, image_root, name), load_sem_seg(sem_seg_root, image_root)
    )
