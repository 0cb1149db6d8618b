"""COCO-style data: instances from JSON, semantic labels from folders, and the way back to JSON."""

import logging
import os
import time
from typing import Any

import pycocotools.mask as mask_util

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.structures import BoxMode
from d2lite.utils.file_io import PathManager

from .coco_export import convert_to_coco_dict, convert_to_coco_json
from .coco_json import (
    check_boxes,
    check_image_folder,
    check_unique_ids,
    checked_categories,
    group_by_image,
    read_json,
    section,
    sorted_images,
)

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Load a COCO instance annotation file as dataset dicts, sorted by image id.

    Boxes come as XYWH_ABS; keypoints move by 0.5 to continuous coordinates; polygons without
    three points are left out, and an instance whose polygons are all like that is dropped (counted
    in a warning). Uncompressed RLE is compressed.

    Args:
        json_file: path of the file.
        image_root: folder that `file_name` in the file is relative to; "" for none.
        dataset_name: if given, `thing_classes` and `thing_dataset_id_to_contiguous_id` are set in
            its metadata and categories become 0, 1, ... by ascending id. Without it,
            `category_id` is that of the file.
        extra_annotation_keys: further annotation keys to keep.
    Raises:
        FileNotFoundError: the file or the folder of the images is missing.
        ValueError: the file is cut off, lacks a part, has ids twice or malformed boxes, or uses a
            category it does not list. The message names the place.
    """
    start = time.perf_counter()
    data = read_json(json_file)
    id_map = None
    if dataset_name is not None:
        id_map = _set_category_metadata(checked_categories(data, json_file), dataset_name)
    records = coco_records(data, json_file, image_root, id_map, extra_annotation_keys)
    logger.info(
        f"Loaded {len(records)} images in COCO format from {json_file} "
        f"in {time.perf_counter() - start:.1f} s"
    )
    return records


def _set_category_metadata(categories: list[dict], dataset_name: str) -> dict[int, int]:
    """Enter names and ids into the metadata; returns file id -> contiguous id."""
    id_map = {category["id"]: index for index, category in enumerate(categories)}
    if "coco" not in dataset_name and list(id_map) != list(range(1, len(id_map) + 1)):
        logger.warning(
            f"{dataset_name}: category ids are not 1 to {len(id_map)}; they are mapped to "
            f"0 to {len(id_map) - 1} in ascending order"
        )
    MetadataCatalog.get(dataset_name).set(
        thing_classes=[category["name"] for category in categories],
        thing_dataset_id_to_contiguous_id=id_map,
    )
    return id_map


def coco_records(
    data: Any,
    json_file: str,
    image_root: str,
    id_map: dict[int, int] | None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Dataset dicts of a parsed COCO file; arguments and errors as for `load_coco_json`."""
    images = sorted_images(data, json_file, needs=("file_name", "height", "width"))
    # The files of test images have no annotations at all.
    has_annotations = isinstance(data, dict) and "annotations" in data
    annotations = section(data, "annotations", json_file) if has_annotations else []
    _check_annotations(annotations, json_file)
    groups = group_by_image(annotations, [image["id"] for image in images], json_file)
    if images:
        first = os.path.join(image_root, images[0]["file_name"])
        check_image_folder(image_root, first, json_file)
    reader = _AnnotationReader(json_file, id_map, extra_annotation_keys or [])
    records = [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": reader.read_all(groups[image["id"]]),
        }
        for image in images
    ]
    reader.report()
    return records


def _check_annotations(annotations: list[dict], json_file: str) -> None:
    # The 2014 "minival" files on COCO's own list do have annotation ids twice.
    if "minival" not in json_file:
        check_unique_ids([a["id"] for a in annotations if "id" in a], "annotation", json_file)
    without_area = check_boxes(annotations, json_file)
    if without_area:
        logger.warning(
            f"{json_file}: {without_area} boxes have no area; they are left out in training"
        )


class _AnnotationReader:
    """Turns COCO annotations into those of dataset dicts, and counts what it had to drop."""

    def __init__(self, json_file: str, id_map: dict[int, int] | None, extra_keys: list[str]):
        self.json_file = json_file
        self.id_map = id_map
        self.keys = ["iscrowd", "bbox", "keypoints", "category_id", *extra_keys]
        self.num_without_polygon = 0

    def read_all(self, annotations: list[dict]) -> list[dict]:
        """Annotations of one image; those with a mask but no valid polygon are left out."""
        found = (self._read(annotation) for annotation in annotations)
        return [instance for instance in found if instance is not None]

    def _read(self, annotation: dict) -> dict | None:
        if annotation.get("ignore", 0) != 0:
            raise ValueError(
                f"{self.json_file}: annotation {annotation.get('id')} has 'ignore' set, which is "
                "not supported; use 'iscrowd' for regions to leave out, or drop it"
            )
        instance = {key: annotation[key] for key in self.keys if key in annotation}
        if annotation.get("segmentation"):
            instance["segmentation"] = self._segmentation(annotation)
            if not instance["segmentation"]:
                self.num_without_polygon += 1
                return None
        if instance.get("keypoints"):
            instance["keypoints"] = _continuous_keypoints(instance["keypoints"])
        instance["bbox_mode"] = BoxMode.XYWH_ABS
        instance["category_id"] = self._category(annotation)
        return instance

    def _category(self, annotation: dict) -> int:
        category = annotation.get("category_id")
        if self.id_map is None and category is not None:
            return category
        if self.id_map is None or category not in self.id_map:
            raise ValueError(
                f"{self.json_file}: annotation {annotation.get('id')} has category_id {category}, "
                "absent from its 'categories'; add it or drop the box"
            )
        return self.id_map[category]

    def _segmentation(self, annotation: dict) -> list | dict:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            if isinstance(segmentation["counts"], list):
                return mask_util.frPyObjects(segmentation, *segmentation["size"])
            return segmentation
        if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
            raise ValueError(
                f"{self.json_file}: annotation {annotation.get('id')} has a 'segmentation' that is "
                "neither an RLE object nor a list of polygons [x0, y0, x1, y1, ...]"
            )
        return [poly for poly in segmentation if len(poly) % 2 == 0 and len(poly) >= 6]

    def report(self) -> None:
        """Warn, once per file, about the instances left out."""
        if self.num_without_polygon:
            logger.warning(
                f"{self.json_file}: left out {self.num_without_polygon} instances whose polygons "
                "all have fewer than three points or an odd number of coordinates"
            )


def _continuous_keypoints(keypoints: list[float]) -> list[float]:
    """Move (x, y, visibility) triples from COCO's pixel indices to continuous coordinates."""
    # An index of 0 means somewhere in the first pixel, whose middle is at 0.5.
    return [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(keypoints)]


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict]:
    """Pair images with their label images by relative path without extension.

    Args:
        gt_root: folder with label images (all levels); a pixel's value is its class.
        image_root: folder with images.
        gt_ext, image_ext: file extensions of the two.
    Returns:
        dicts with `file_name` and `sem_seg_file_name`, sorted by relative path. Files without a
        partner are left out with a warning.
    Raises:
        FileNotFoundError: a folder is missing, or no image has a label image.
    """
    images = _files_by_stem(image_root, image_ext)
    labels = _files_by_stem(gt_root, gt_ext)
    stems = sorted(images.keys() & labels.keys())
    if not stems:
        raise FileNotFoundError(
            f"no '*.{image_ext}' in {image_root!r} has a '*.{gt_ext}' of the same name in "
            f"{gt_root!r} ({len(images)} images, {len(labels)} label images)"
        )
    unpaired = sorted(images.keys() ^ labels.keys())
    if unpaired:
        logger.warning(
            f"{image_root} and {gt_root}: left out {len(unpaired)} files without a partner, "
            f"the first is {unpaired[0]!r}"
        )
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in stems]


def _files_by_stem(root: str, extension: str) -> dict[str, str]:
    """Files with `extension` below `root`, by relative path without the extension."""
    root = PathManager.get_local_path(root)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"there is no folder {root!r}")
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(f".{extension}"):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root)[: -len(extension) - 1]] = path
    return found


def register_coco_instances(name: str, metadata: dict, json_file: str, image_root: str) -> None:
    """Register a COCO-style instance data set; it is read when first asked for.

    Args:
        name: the data set's name, such as "my_train".
        metadata: further metadata; may be empty.
        json_file: COCO instance annotation file.
        image_root: folder with the images.
    """
    assert isinstance(name, str), f"a data set name is a string, not {name!r}"
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def main() -> None:
    """`python -m d2lite.data.datasets.coco JSON_FILE IMAGE_ROOT DATASET_NAME` draws the data."""
    from .preview import preview_main

    def load(json_file: str, image_root: str, dataset_name: str):
        records = load_coco_json(json_file, image_root, dataset_name)
        return records, MetadataCatalog.get(dataset_name)

    preview_main(load, ["json_file", "image_root", "dataset_name"], "coco-data-vis")


if __name__ == "__main__":
    main()
