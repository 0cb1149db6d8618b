"""LVIS: COCO images with polygons of over a thousand categories, annotated federally."""

import logging
import os
import time
from functools import partial
from typing import Any

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.builtin_meta import get_builtin_metadata
from d2lite.data.datasets.coco_json import (
    check_image_folder,
    checked_categories,
    dataset_errors,
    group_by_image,
    label,
    read_json,
    section,
    sorted_images,
    whole_number,
)
from d2lite.data.datasets.lvis_v0_5_categories import LVIS_CATEGORIES as LVIS_V0_5_CATEGORIES
from d2lite.data.datasets.lvis_v1_categories import LVIS_CATEGORIES as LVIS_V1_CATEGORIES
from d2lite.data.datasets.lvis_v1_category_image_count import (
    LVIS_CATEGORY_IMAGE_COUNT as LVIS_V1_CATEGORY_IMAGE_COUNT,
)
from d2lite.data.ground_truth import normalize_dicts
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted

logger = logging.getLogger(__name__)


def register_lvis_instances(name: str, metadata: dict, json_file: str, image_root: str) -> None:
    """Register an LVIS dataset; it is read when it is first used.

    Args:
        name: the dataset's name, such as "lvis_v1_train".
        metadata: further metadata, such as `get_lvis_instances_meta(name)`.
        json_file: LVIS instance annotation file.
        image_root: folder that contains `train2017` and the like.
    """
    DatasetCatalog.register(name, partial(load_lvis_json, json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata
    )


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Load an LVIS annotation file as dataset dicts, sorted by image id.

    Besides the standard keys, a dict has `neg_category_ids` (checked to be absent) and
    `not_exhaustive_category_ids` (not all instances annotated), as ids of the file.

    Args:
        json_file: path of the file.
        image_root: folder that contains the split's folder named in each image's `coco_url`.
        dataset_name: if given, the classes are stored in its metadata: LVIS's own if the name
            contains the version, else those of the file. If the metadata have no
            `thing_dataset_id_to_contiguous_id`, ids count from 1 in the file and from 0 in the
            dicts. The metadata also get `category_frequency`, which the evaluation needs: for each
            id in the file "r", "c" or "f" (rare, common, frequent).
        extra_annotation_keys: further annotation keys to keep.
    Raises:
        FileNotFoundError, ValueError: as `load_coco_json`.
    """
    start = time.perf_counter()
    data = read_json(json_file)
    id_map = None
    if dataset_name is not None:
        with dataset_errors(json_file):
            categories = checked_categories(data, json_file) if "categories" in data else []
        metadata = MetadataCatalog.get(dataset_name)
        if any(word in dataset_name for word in ("cocofied", "v0.5", "v1")):
            metadata.set(**get_lvis_instances_meta(dataset_name))
        elif not metadata.get("thing_classes"):
            metadata.set(
                thing_classes=[category["name"] for category in categories],
                thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
            )
        if categories and all(c.get("frequency") in ("r", "c", "f") for c in categories):
            metadata.set(category_frequency={c["id"]: c["frequency"] for c in categories})
        id_map = metadata.get("thing_dataset_id_to_contiguous_id")
    with dataset_errors(json_file):
        records = _records(data, json_file, image_root, id_map, extra_annotation_keys or [])
    logger.info(
        "Loaded %s images in LVIS format from %s in %.1f s",
        len(records),
        json_file,
        time.perf_counter() - start,
    )
    return records


def _records(
    data: Any,
    json_file: str,
    image_root: str,
    id_map: dict[int, int] | None,
    extra_keys: list[str],
) -> list[dict]:
    """Return the dataset dicts of a parsed LVIS file."""
    images = sorted_images(data, json_file, needs=("coco_url", "height", "width"))
    # The files of test images have no annotations at all.
    annotations = section(data, "annotations", json_file) if "annotations" in data else []
    groups = group_by_image(annotations, [image["id"] for image in images], json_file)
    if images:
        check_image_folder(image_root, _image_path(image_root, images[0]), json_file)
    records = [
        {
            "file_name": _image_path(image_root, image),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "annotations": [
                _instance(a, id_map, extra_keys, json_file) for a in groups[image["id"]]
            ],
        }
        for image in images
    ]
    return normalize_dicts(
        records, json_file, lambda record, index: label(groups[record["image_id"]][index], index)
    )


def _image_path(image_root: str, image: dict) -> str:
    # LVIS splits mix COCO's train and val images, so the folder is taken from the image's own URL.
    return os.path.join(image_root, *image["coco_url"].split("/")[-2:])


def _instance(
    row: dict, id_map: dict[int, int] | None, extra_keys: list[str], json_file: str
) -> dict:
    """Return the annotation of a dataset dict, not checked yet."""
    category = whole_number(row.get("category_id"))
    if not isinstance(category, int) or (category not in id_map if id_map else category < 1):
        raise ValueError(
            f"{json_file}: {label(row)} has category_id {quoted(category)}, which is not a known "
            "category"
        )
    if not isinstance(row.get("segmentation"), list):
        raise ValueError(f"{json_file}: {label(row)} needs a 'segmentation' of polygons")
    return {
        "bbox": row.get("bbox"),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": id_map[category] if id_map else category - 1,
        **{key: row[key] for key in ("segmentation", "area", *extra_keys) if key in row},
    }


def get_lvis_instances_meta(dataset_name: str) -> dict:
    """Return the metadata of an LVIS dataset: classes and, for v1, `class_image_count`.

    Args:
        dataset_name: contains "cocofied" (COCO's classes), "v0.5" or "v1", such as
            "lvis_v1_train".
    Raises:
        ValueError: the name contains none of these.
    """
    if "cocofied" in dataset_name:
        return get_builtin_metadata("coco")
    if "v0.5" in dataset_name:
        return {"thing_classes": [c["synonyms"][0] for c in LVIS_V0_5_CATEGORIES]}
    if "v1" in dataset_name:
        return {
            "thing_classes": [c["synonyms"][0] for c in LVIS_V1_CATEGORIES],
            "class_image_count": LVIS_V1_CATEGORY_IMAGE_COUNT,
        }
    raise ValueError(
        f"LVIS dataset {dataset_name!r}: the name must contain 'v1', 'v0.5' or 'cocofied', "
        "which determines its categories"
    )


def main() -> None:
    """`python -m d2lite.data.datasets.lvis JSON_FILE IMAGE_ROOT DATASET_NAME` draws the data."""
    from d2lite.data.datasets.preview import preview_main

    def load(json_file: str, image_root: str, dataset_name: str):
        records = load_lvis_json(json_file, image_root, dataset_name)
        return records, MetadataCatalog.get(dataset_name)

    preview_main(load, ["json_file", "image_root", "dataset_name"], "lvis-data-vis")


if __name__ == "__main__":
    main()
