"""Cityscapes' panoptic form: COCO-like JSON and id images, made by cityscapesscripts."""

import logging
import os
from typing import Any

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.builtin_meta import (
    CITYSCAPES_CATEGORIES as CITYSCAPES_CATEGORIES,
    cityscapes_panoptic_meta,
)
from d2lite.data.datasets.cityscapes import IMAGE_SUFFIX, list_images
from d2lite.data.datasets.coco_json import dataset_errors, read_json, section
from d2lite.data.datasets.coco_panoptic import contiguous_segment
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)

_HINT = "make it with cityscapesscripts/preparation/createPanopticImgs.py"

# Split -> image folder, folder of id images, JSON; all below the root.
_SPLITS = {
    "cityscapes_fine_panoptic_train": (
        "cityscapes/leftImg8bit/train",
        "cityscapes/gtFine/cityscapes_panoptic_train",
        "cityscapes/gtFine/cityscapes_panoptic_train.json",
    ),
    "cityscapes_fine_panoptic_val": (
        "cityscapes/leftImg8bit/val",
        "cityscapes/gtFine/cityscapes_panoptic_val",
        "cityscapes/gtFine/cityscapes_panoptic_val.json",
    ),
}


def get_cityscapes_panoptic_files(
    image_dir: str, gt_dir: str, json_info: dict
) -> list[tuple[str, str, list[dict]]]:
    """Return image file, id image file and segments of each annotation in a panoptic JSON.

    Args:
        image_dir: such as "cityscapes/leftImg8bit/train".
        gt_dir: such as "cityscapes/gtFine/cityscapes_panoptic_train".
        json_info: the contents of the JSON file.
    Raises:
        FileNotFoundError: a folder, image or id image is missing.
    """
    images = {os.path.basename(f)[: -len(f"_{IMAGE_SUFFIX}")]: f for _, f in list_images(image_dir)}
    files = []
    for row in json_info["annotations"]:
        if row["image_id"] not in images:
            raise FileNotFoundError(f"{image_dir}: there is no image {row['image_id']!r}")
        label_file = os.path.join(gt_dir, row["file_name"])
        if not PathManager.isfile(label_file):
            raise FileNotFoundError(f"{label_file}: id image not found; {_HINT}")
        files.append((images[row["image_id"]], label_file, row["segments_info"]))
    return files


def load_cityscapes_panoptic(
    image_dir: str, gt_dir: str, gt_json: str, meta: dict[str, Any]
) -> list[dict]:
    """Load Cityscapes' panoptic annotations as dataset dicts.

    Args:
        image_dir: such as "cityscapes/leftImg8bit/train".
        gt_dir: such as "cityscapes/gtFine/cityscapes_panoptic_train".
        gt_json: such as "cityscapes/gtFine/cityscapes_panoptic_train.json".
        meta: has `thing_dataset_id_to_contiguous_id` and `stuff_dataset_id_to_contiguous_id`.
    Returns:
        dicts with `file_name`, `image_id`, `sem_seg_file_name`, `pan_seg_file_name` and
        `segments_info` with contiguous ids.
    Raises:
        FileNotFoundError, ValueError: as `load_coco_panoptic_json`.
    """
    if not PathManager.isfile(gt_json):
        raise FileNotFoundError(f"{gt_json}: file not found; {_HINT}")
    data = read_json(gt_json)
    section(data, "annotations", gt_json)
    records = []
    with dataset_errors(gt_json):
        for image_file, label_file, segments in get_cityscapes_panoptic_files(
            image_dir, gt_dir, data
        ):
            stem = os.path.basename(image_file)[: -len(f"_{IMAGE_SUFFIX}")]
            labels = image_file.replace("leftImg8bit", "gtFine").removesuffix(".png")
            records.append(
                {
                    "file_name": image_file,
                    "image_id": stem,
                    "sem_seg_file_name": f"{labels}_labelTrainIds.png",
                    "pan_seg_file_name": label_file,
                    "segments_info": [contiguous_segment(s, meta, gt_json) for s in segments],
                }
            )
    logger.info("Loaded %s Cityscapes panoptic images from %s", len(records), image_dir)
    return records


def register_all_cityscapes_panoptic(root: str) -> None:
    """Register `cityscapes_fine_panoptic_train` and `_val` below the folder `root`."""
    meta = cityscapes_panoptic_meta()
    for name, parts in _SPLITS.items():
        image_dir, gt_dir, gt_json = (os.path.join(root, part) for part in parts)
        DatasetCatalog.register(
            name,
            lambda i=image_dir, g=gt_dir, j=gt_json: load_cityscapes_panoptic(i, g, j, meta),
        )
        MetadataCatalog.get(name).set(
            panoptic_root=gt_dir,
            image_root=image_dir,
            panoptic_json=gt_json,
            gt_dir=gt_dir.replace("cityscapes_panoptic_", ""),
            evaluator_type="cityscapes_panoptic_seg",
            ignore_label=255,
            label_divisor=1000,
            **meta,
        )
