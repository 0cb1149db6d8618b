"""COCO-style data: instances from JSON, semantic labels from folders, and export to JSON.

The structure of the file is checked in `coco_json.py`, the values of an annotation (box, polygons,
keypoints) in `data/annotations.py`.
"""

import logging
import os
import time
from functools import partial
from typing import Any

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.coco_export import (
    convert_to_coco_dict as convert_to_coco_dict,
    convert_to_coco_json as convert_to_coco_json,
)
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
from d2lite.data.ground_truth import normalize_dicts
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted, shortened
from d2lite.utils.file_io import PathManager
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Load a COCO instance annotation file as dataset dicts, sorted by image id.

    Boxes are XYWH_ABS; keypoints move by 0.5 to continuous coordinates. Annotations are checked,
    and those that cannot be learned are left out; see `normalize_dicts`. Their ids are not used:
    they may repeat, start at 0, or be missing. An "area" is kept for the evaluation.

    Args:
        json_file: path of the file.
        image_root: folder that `file_name` in the file is relative to; "" for none.
        dataset_name: if given, `thing_classes` and `thing_dataset_id_to_contiguous_id` are set in
            its metadata, and categories become 0, 1, ... by ascending id; or, if the metadata
            already have `thing_classes`, the class of the same name. Without it, `category_id` is
            that of the file.
        extra_annotation_keys: further annotation keys to keep.
    Raises:
        FileNotFoundError: the file or the folder of the images is missing.
        ValueError: the file is cut off, lacks a part, has an image id twice, uses a category that
            it does not list, or an annotation is malformed. The message names the place.
    """
    start = time.perf_counter()
    data = read_json(json_file)
    id_map = None
    if dataset_name is not None:
        with dataset_errors(json_file):
            categories = checked_categories(data, json_file)
        id_map = _set_category_metadata(categories, dataset_name)
    with dataset_errors(json_file):
        records = coco_records(data, json_file, image_root, id_map, extra_annotation_keys)
    logger.info(
        "Loaded %s images in COCO format from %s in %.1f s",
        len(records),
        json_file,
        time.perf_counter() - start,
    )
    return records


def _set_category_metadata(categories: list[dict], dataset_name: str) -> dict[int, int]:
    """Store names and ids in the metadata, and return the contiguous id for each id of the file.

    Classes that the metadata already have keep their places: the file may have only some of them,
    or have them in another order.
    """
    names = [category["name"] for category in categories]
    known = MetadataCatalog.get(dataset_name).get("thing_classes")
    if known is not None and list(known) != names:
        classes = list(known)
        for name in names:
            if classes.count(name) != 1:
                raise ValueError(
                    f"dataset {dataset_name!r}: category {quoted(name)} of its file occurs "
                    f"{classes.count(name)} times among the thing_classes of its metadata "
                    f"({shortened(', '.join(classes[:6]))}).{did_you_mean(name, classes)} Set "
                    "the names that the file has, or leave thing_classes out"
                )
        id_map = {category["id"]: classes.index(category["name"]) for category in categories}
        MetadataCatalog.get(dataset_name).set(thing_dataset_id_to_contiguous_id=id_map)
        return id_map
    id_map = {category["id"]: index for index, category in enumerate(categories)}
    if "coco" not in dataset_name and list(id_map) != list(range(1, len(id_map) + 1)):
        logger.warning(
            "%s: category ids are not 1 to %s; they are mapped to 0 to %s in ascending order",
            dataset_name,
            len(id_map),
            len(id_map) - 1,
        )
    MetadataCatalog.get(dataset_name).set(
        thing_classes=names, thing_dataset_id_to_contiguous_id=id_map
    )
    return id_map


def coco_records(
    data: Any,
    json_file: str,
    image_root: str,
    id_map: dict[int, int] | None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Return the dataset dicts of a parsed COCO file; see `load_coco_json` for the rest."""
    images = sorted_images(data, json_file, needs=("file_name", "height", "width"))
    # The files of test images have no annotations at all.
    has_annotations = isinstance(data, dict) and "annotations" in data
    annotations = section(data, "annotations", json_file) if has_annotations else []
    groups = group_by_image(annotations, [image["id"] for image in images], json_file)
    if images:
        first = os.path.join(image_root, images[0]["file_name"])
        check_image_folder(image_root, first, json_file)
    keys = ("iscrowd", "bbox", "area", "segmentation", "keypoints", *(extra_annotation_keys or ()))
    records = [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [
                _annotation(row, keys, id_map, json_file) for row in groups[image["id"]]
            ],
        }
        for image in images
    ]
    records = normalize_dicts(
        records, json_file, lambda record, index: label(groups[record["image_id"]][index], index)
    )
    for record in records:
        for annotation in record["annotations"]:
            if "keypoints" in annotation:
                # (x, y, visibility) triples, from COCO's pixel indices to continuous coordinates:
                # an index of 0 means somewhere in the first pixel, whose middle is at 0.5.
                values = annotation["keypoints"]
                annotation["keypoints"] = [
                    v if i % 3 == 2 else v + 0.5 for i, v in enumerate(values)
                ]
    return records


def _annotation(
    row: dict, keys: tuple[str, ...], id_map: dict[int, int] | None, json_file: str
) -> dict:
    """Return the annotation of a dataset dict. Only its category is checked here."""
    if row.get("ignore", 0) != 0:
        raise ValueError(
            f"{json_file}: {label(row)} has 'ignore' set, which is not supported; use 'iscrowd' "
            "for regions to leave out, or drop it"
        )
    category = whole_number(row.get("category_id"))
    if not isinstance(category, int) or (id_map is not None and category not in id_map):
        raise ValueError(
            f"{json_file}: {label(row)} has category_id {quoted(category)}, absent from its "
            "'categories'; add it or drop the box"
        )
    annotation = {key: row[key] for key in keys if key in row}
    annotation.setdefault("bbox", None)
    annotation["bbox_mode"] = BoxMode.XYWH_ABS
    annotation["category_id"] = category if id_map is None else id_map[category]
    return annotation


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
            "%s and %s: left out %s files without a partner, the first is %r",
            image_root,
            gt_root,
            len(unpaired),
            unpaired[0],
        )
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in stems]


def _files_by_stem(root: str, extension: str) -> dict[str, str]:
    """Return the files with `extension` below `root`, by relative path without the extension."""
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
    """Register a COCO-style instance dataset; it is read when it is first used.

    Args:
        name: the dataset's name, such as "my_train".
        metadata: further metadata; may be empty.
        json_file: COCO instance annotation file.
        image_root: folder with the images.
    """
    assert isinstance(name, str), f"a dataset name is a string, not {name!r}"
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    DatasetCatalog.register(name, partial(load_coco_json, json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def main() -> None:
    """`python -m d2lite.data.datasets.coco JSON_FILE IMAGE_ROOT DATASET_NAME` draws the data."""
    from d2lite.data.datasets.preview import preview_main

    def load(json_file: str, image_root: str, dataset_name: str):
        records = load_coco_json(json_file, image_root, dataset_name)
        return records, MetadataCatalog.get(dataset_name)

    preview_main(load, ["json_file", "image_root", "dataset_name"], "coco-data-vis")


if __name__ == "__main__":
    main()
