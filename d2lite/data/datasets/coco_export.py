"""Writing any registered dataset as COCO JSON, for evaluation and for other tools."""

import datetime
import json
import logging
import os

import numpy as np
import pycocotools.mask as mask_util

from d2lite.data.catalog import Metadata, MetadataCatalog
from d2lite.data.ground_truth import load_ground_truth
from d2lite.structures import BoxMode
from d2lite.structures.masks import polygon_area
from d2lite.utils.file_io import PathManager
from d2lite.utils.writing import atomic_write

logger = logging.getLogger(__name__)


def convert_to_coco_dict(dataset_name: str) -> dict:
    """Return a registered instance dataset as the contents of a COCO JSON file.

    Category ids are those of `thing_dataset_id_to_contiguous_id` if the metadata have it, else
    0, 1, .... Boxes become XYWH (XYWHA stays, with angle), rounded to 0.001 pixels; keypoints move
    back by 0.5. Annotation ids start at 1, since COCO's evaluation takes 0 for "no match".

    Raises:
        KeyError: the dataset is unknown.
        ValueError: COCO cannot express an annotation; the message names the image.
    """
    table = coco_table(load_ground_truth(dataset_name), MetadataCatalog.get(dataset_name))
    return coco_contents(table, dataset_name)


def coco_contents(table: dict[str, list[dict]], name: str) -> dict:
    """Return the contents of a COCO JSON file.

    Args:
        table: result of `coco_table`.
        name: name of the dataset, for the "info" of the file.
    """
    annotations = []
    for row in table["annotations"]:
        row = {**row, "bbox": [round(v, 3) for v in row["bbox"]]}
        # JSON has strings instead of bytes, and no numpy numbers.
        shape = row.get("segmentation")
        if isinstance(shape, dict):
            counts = shape["counts"]
            text = counts.decode("ascii") if isinstance(counts, bytes) else counts
            row["segmentation"] = {**shape, "counts": text}
        elif shape is not None:
            row["segmentation"] = [[float(v) for v in poly] for poly in shape]
        annotations.append(row)
    return {
        "info": {
            "description": f"{name}, written by d2lite",
            "date_created": datetime.datetime.now().isoformat(timespec="seconds"),
        },
        "images": table["images"],
        "categories": table["categories"],
        "licenses": None,
        **({"annotations": annotations} if annotations else {}),
    }


def coco_table(
    records: list[dict], metadata: Metadata, id_map: dict[int, int] | None = None
) -> dict[str, list[dict]]:
    """Convert dataset dicts to "images", "annotations" and "categories" in COCO's form.

    The ids of images and categories are those of the file that the dicts were read from;
    annotations are numbered from 1. Missing areas and numbers of keypoints are computed.

    Args:
        records: result of `load_ground_truth`.
        metadata: has `thing_classes`, and may have `thing_dataset_id_to_contiguous_id`.
        id_map: the id to write for each class index; default: as in the metadata, else 0, 1, ....
    Raises:
        ValueError: the metadata name no classes, or an annotation cannot be expressed; the message
            names the image.
    """
    names = metadata.get("thing_classes")
    if names is None:
        raise ValueError(
            f"dataset {metadata.name!r}: its metadata have no thing_classes, the names of its "
            "classes; set them by MetadataCatalog.get(NAME).set(thing_classes=[...])"
        )
    id_map = category_ids(metadata) if id_map is None else id_map
    images, annotations = [], []
    for record in records:
        images.append(
            {
                "id": record["image_id"],
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": str(record["file_name"]),
            }
        )
        for annotation in record.get("annotations", ()):
            row = _coco_annotation(annotation, str(record["file_name"]), id_map)
            number = len(annotations) + 1
            annotations.append({"id": number, "image_id": record["image_id"], **row})
    categories = [
        {"id": id_map[index], "name": name} for index, name in enumerate(names) if index in id_map
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def category_ids(metadata: Metadata, first: int = 0) -> dict[int, int]:
    """Return the id of each class in the dataset's files, by class index.

    Args:
        first: if the metadata have no ids, classes are numbered from this one on.
    """
    to_index = metadata.get("thing_dataset_id_to_contiguous_id")
    if not to_index:
        return {index: first + index for index in range(len(metadata.thing_classes))}
    return {index: dataset_id for dataset_id, index in to_index.items()}


def _coco_annotation(annotation: dict, file_name: str, id_map: dict[int, int]) -> dict:
    missing = [key for key in ("category_id", "bbox", "bbox_mode") if key not in annotation]
    if missing:
        raise ValueError(f"{file_name}: an annotation has no {missing[0]!r}")
    category = annotation["category_id"]
    if category not in id_map:
        raise ValueError(
            f"{file_name}: category_id {category} is not one of the {len(id_map)} thing_classes"
        )
    box = np.asarray(annotation["bbox"], dtype=np.float64).tolist()
    if annotation["bbox_mode"] == BoxMode.XYXY_ABS:
        # In double precision, which BoxMode's conversion of lists has not.
        box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    area = annotation.get("area")
    row = {
        "bbox": box,
        "area": float(_area(annotation.get("segmentation"), box) if area is None else area),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "category_id": int(id_map[category]),
    }
    if "keypoints" in annotation:
        points = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        points[:, :2] -= 0.5  # from continuous coordinates to pixel indices
        row["keypoints"] = points.ravel().tolist()
        row["num_keypoints"] = int((points[:, 2] > 0).sum())
    if "segmentation" in annotation:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, np.ndarray):
            segmentation = mask_util.encode(np.asfortranarray(segmentation, dtype=np.uint8))
        elif not isinstance(segmentation, dict):
            segmentation = [
                poly if isinstance(poly, list) else np.ravel(poly).tolist() for poly in segmentation
            ]
        row["segmentation"] = segmentation
    return row


def _area(segmentation: list | dict | np.ndarray | None, box: list[float]) -> float:
    """Return the area of the mask if there is one, else of the box."""
    if segmentation is None:
        return box[2] * box[3]
    if isinstance(segmentation, dict):
        return mask_util.area(segmentation)
    if isinstance(segmentation, np.ndarray):
        return np.count_nonzero(segmentation)
    polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
    return float(sum(polygon_area(polygon[0::2], polygon[1::2]) for polygon in polygons))


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered dataset as a COCO JSON file.

    The file appears complete or not at all, so that several processes may write it together.

    Args:
        dataset_name: a registered name or a URI.
        output_file: path of the JSON file; its folder is created.
        allow_cached: leave an existing file as it is.
    """
    if allow_cached and PathManager.exists(output_file):
        logger.warning(
            "Using the existing %s for %s; delete it if the data changed", output_file, dataset_name
        )
        return
    folder = os.path.dirname(output_file) or "."
    PathManager.mkdirs(folder)
    contents = convert_to_coco_dict(dataset_name)
    logger.info("Writing %s in COCO format to %s", dataset_name, output_file)
    with atomic_write(output_file, "w", together=True) as f:
        json.dump(contents, f)
