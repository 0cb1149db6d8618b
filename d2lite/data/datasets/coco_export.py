"""Writing any registered data set as COCO JSON, for evaluation and for other tools."""

import datetime
import json
import logging
import os
import socket

import numpy as np
import pycocotools.mask as mask_util

from d2lite.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from d2lite.structures import BoxMode
from d2lite.utils.file_io import PathManager

__all__ = ["convert_to_coco_dict", "convert_to_coco_json"]

logger = logging.getLogger(__name__)


def convert_to_coco_dict(dataset_name: str) -> dict:
    """A registered instance data set as the contents of a COCO JSON file.

    Category ids are those of `thing_dataset_id_to_contiguous_id` where the metadata have it, else
    0, 1, .... Boxes become XYWH (XYWHA stays, with angle), keypoints move back by 0.5. Annotation
    ids start at 1, since COCO's evaluation takes 0 for "no match".

    Raises:
        KeyError: unknown data set.
        ValueError: an annotation that COCO cannot express; the message names the image.
    """
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    id_map = _file_ids(metadata)
    images, annotations = [], []
    for index, record in enumerate(records):
        image_id = record.get("image_id", index)
        images.append(
            {
                "id": image_id,
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": str(record["file_name"]),
            }
        )
        for annotation in record.get("annotations", []):
            row = _coco_annotation(annotation, str(record["file_name"]), id_map)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **row})
    return {
        "info": {
            "description": f"{dataset_name}, written by d2lite",
            "date_created": datetime.datetime.now().isoformat(timespec="seconds"),
        },
        "images": images,
        "categories": [
            {"id": id_map[index], "name": name} for index, name in enumerate(metadata.thing_classes)
        ],
        "licenses": None,
        **({"annotations": annotations} if annotations else {}),
    }


def _file_ids(metadata: Metadata) -> dict[int, int]:
    """Contiguous id -> id to write."""
    mapping = metadata.get("thing_dataset_id_to_contiguous_id")
    if mapping is None:
        return {index: index for index in range(len(metadata.thing_classes))}
    return {contiguous: dataset_id for dataset_id, contiguous in mapping.items()}


def _coco_annotation(annotation: dict, file_name: str, id_map: dict[int, int]) -> dict:
    category = annotation["category_id"]
    if category not in id_map:
        raise ValueError(
            f"{file_name}: category_id {category} is not one of the {len(id_map)} thing_classes"
        )
    box = _coco_box(annotation, file_name)
    row = {
        "bbox": [round(float(v), 3) for v in box],
        "area": float(_area(annotation.get("segmentation"), box, file_name)),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "category_id": int(id_map[category]),
    }
    if annotation.get("keypoints") is not None:
        row.update(_coco_keypoints(annotation["keypoints"], file_name))
    if annotation.get("segmentation"):
        row["segmentation"] = _json_segmentation(annotation["segmentation"])
    return row


def _coco_box(annotation: dict, file_name: str) -> list[float]:
    box = np.asarray(annotation["bbox"], dtype=np.float64).tolist()
    if len(box) not in (4, 5):
        raise ValueError(f"{file_name}: a box has 4 numbers, or 5 with an angle, not {len(box)}")
    mode = BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS
    return BoxMode.convert(box, annotation["bbox_mode"], mode)


def _area(segmentation: list | dict | None, box: list[float], file_name: str) -> float:
    """Area of the mask where there is one, else of the box."""
    if not segmentation:
        return box[2] * box[3]
    if isinstance(segmentation, dict):
        return mask_util.area(_compressed(segmentation))
    if isinstance(segmentation, list):
        return sum(_polygon_area(np.asarray(poly).reshape(-1, 2)) for poly in segmentation)
    raise ValueError(
        f"{file_name}: a segmentation is a list of polygons or an RLE dict, "
        f"not a {type(segmentation).__name__}"
    )


def _polygon_area(points: np.ndarray) -> float:
    """Area of one polygon of (P, 2) points, by the shoelace formula."""
    x, y = points.astype(np.float64).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _coco_keypoints(keypoints: list, file_name: str) -> dict:
    points = np.array(keypoints, dtype=np.float64)
    if points.size % 3:
        raise ValueError(f"{file_name}: keypoints are x, y, visibility each, not {points.size}")
    points = points.reshape(-1, 3)
    points[:, :2] -= 0.5  # from continuous coordinates to pixel indices
    return {
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def _compressed(rle: dict) -> dict:
    is_list = isinstance(rle["counts"], list)
    return mask_util.frPyObjects(rle, *rle["size"]) if is_list else rle


def _json_segmentation(segmentation: list | dict) -> list | dict:
    """With text in place of bytes and lists in place of arrays."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        return {**segmentation, "counts": text}
    return [np.asarray(poly, dtype=np.float64).tolist() for poly in segmentation]


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered data set as a COCO JSON file.

    The file appears complete or not at all, so that several processes may write it together.

    Args:
        dataset_name: a registered name or a URI.
        output_file: path of the JSON file; its folder is made.
        allow_cached: leave an existing file as it is.
    """
    if allow_cached and PathManager.exists(output_file):
        logger.warning(
            f"Using the existing {output_file} for {dataset_name}; delete it if the data changed"
        )
        return
    folder = os.path.dirname(output_file) or "."
    PathManager.mkdirs(folder)
    contents = convert_to_coco_dict(dataset_name)
    logger.info(f"Writing {dataset_name} in COCO format to {output_file}")
    partial = f"{output_file}.{socket.gethostname()}-{os.getpid()}.partial"
    with open(partial, "w", encoding="utf-8") as f:
        json.dump(contents, f)
    os.replace(partial, output_file)
