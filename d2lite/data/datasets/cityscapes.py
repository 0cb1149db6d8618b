"""Cityscapes' fine annotations: instances from polygons or id images, and semantic labels.

Only the files are needed, not the cityscapesscripts package (evaluation does need that).
"""

import logging
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import cv2
import numpy as np
import pycocotools.mask as mask_util

from d2lite.data.annotations import MAX_DISTANCE
from d2lite.data.catalog import Metadata
from d2lite.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES, get_builtin_metadata
from d2lite.data.datasets.coco_json import dataset_errors, read_json
from d2lite.data.image_io import read_labels
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted
from d2lite.utils.extras import import_extra
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)

IMAGE_SUFFIX = "leftImg8bit.png"
_FILES_FOR_WORKERS = 64  # fewer are read faster than processes start

_THING_IDS = [c["id"] for c in CITYSCAPES_CATEGORIES if c["isthing"]]
_CONTIGUOUS_ID = {category_id: i for i, category_id in enumerate(_THING_IDS)}
_THING_BY_NAME = {c["name"]: c["id"] for c in CITYSCAPES_CATEGORIES if c["isthing"]}
# Labels of the files that are not instances of the 8 classes, yet hide what is behind them.
_OTHER_NAMES = {c["name"] for c in CITYSCAPES_CATEGORIES if not c["isthing"]} | {
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
    *("ground", "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup"),
    *("caravan", "trailer"),
}
_IGNORED_NAMES = {"license plate"}  # lies on a car without hiding it


def list_images(image_dir: str) -> list[tuple[str, str]]:
    """Return (city, path) of every image in the folders below `image_dir`, sorted.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no image.
    """
    if not PathManager.isdir(image_dir):
        raise FileNotFoundError(f"{image_dir}: folder of Cityscapes images not found")
    found = []
    for city in sorted(PathManager.ls(image_dir)):
        folder = os.path.join(image_dir, city)
        for name in sorted(PathManager.ls(folder)) if PathManager.isdir(folder) else []:
            if name.endswith(IMAGE_SUFFIX):
                found.append((city, os.path.join(folder, name)))
    if not found:
        raise FileNotFoundError(f"{image_dir}: there is no CITY/*{IMAGE_SUFFIX} in this folder")
    return found


def _label_file(gt_dir: str, city: str, image_file: str, ending: str) -> str:
    """Return the annotation file of an image; raise FileNotFoundError if there is none."""
    stem = os.path.basename(image_file)[: -len(IMAGE_SUFFIX)]
    path = os.path.join(gt_dir, city, f"{stem}gtFine_{ending}")
    if not PathManager.isfile(path):
        hint = (
            "; make it with cityscapesscripts/preparation/createTrainIdLabelImgs.py"
            if ending == "labelTrainIds.png"
            else ""
        )
        raise FileNotFoundError(f"{path}: annotation file not found{hint}")
    return path


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict]:
    """Load instances of Cityscapes' 8 thing classes as dataset dicts.

    Args:
        image_dir: such as "cityscapes/leftImg8bit/train".
        gt_dir: such as "cityscapes/gtFine/train".
        from_json: read polygons from JSON, without the parts hidden by objects in front (needs
            shapely); otherwise read the instance id images.
        to_polygons: return masks as polygons; otherwise as RLE, which only the id images allow.
    Raises:
        FileNotFoundError: a folder, image or annotation file is missing.
        ValueError: RLE was asked for from JSON, or a file has a label unknown to Cityscapes.
    """
    if from_json and not to_polygons:
        raise ValueError("Cityscapes JSON has polygons; use from_json=False for RLE masks")
    jobs = []
    ending = "polygons.json" if from_json else "instanceIds.png"
    for city, image_file in list_images(image_dir):
        jobs.append((image_file, _label_file(gt_dir, city, image_file, ending)))
    reader = _record_from_json if from_json else partial(_record_from_ids, to_polygons=to_polygons)
    if len(jobs) < _FILES_FOR_WORKERS:
        records = [reader(job) for job in jobs]
    else:
        with ProcessPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as workers:
            records = list(workers.map(reader, jobs, chunksize=16))
    logger.info("Loaded %s Cityscapes images from %s", len(records), image_dir)
    return records


def _record(image_file: str, height: int, width: int, annotations: list[dict]) -> dict:
    return {
        "file_name": image_file,
        "image_id": os.path.basename(image_file),
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def _record_from_json(job: tuple[str, str]) -> dict:
    Polygon = import_extra("shapely.geometry", "cityscapes", "reading Cityscapes polygons").Polygon
    image_file, json_file = job
    data = read_json(json_file)
    annotations: list[dict] = []
    in_front = Polygon()
    with dataset_errors(json_file):
        height, width = _image_size(data, json_file)
        # A later object lies in front of the earlier ones.
        for item in reversed(data["objects"]):
            name, category_id = _category_of(item["label"], json_file)
            if name in _IGNORED_NAMES:
                continue
            # Coordinates are pixel indices; with a margin of half a pixel, the outline covers them.
            points = np.asarray(item["polygon"], dtype=np.float32) + 0.5
            if not np.isfinite(points).all() or np.abs(points).max(initial=0) > MAX_DISTANCE:
                raise ValueError(
                    f"{json_file}: a {name} has a polygon that is far outside of its image"
                )
            shape = Polygon(points).buffer(0.5, quad_segs=4)
            seen = None if category_id is None else shape.difference(in_front)
            if seen is not None and not seen.is_empty:
                parts = [p for p in getattr(seen, "geoms", [seen]) if p.geom_type == "Polygon"]
                # The last point of an outline is its first.
                outlines = [np.asarray(part.exterior.coords)[:-1] for part in parts]
                annotations.append(
                    {
                        "iscrowd": int(item["label"] != name),  # a group of objects
                        "category_id": category_id,
                        "segmentation": [outline.ravel().tolist() for outline in outlines],
                        "bbox": list(seen.bounds),
                        "bbox_mode": BoxMode.XYXY_ABS,
                    }
                )
            in_front = in_front.union(shape)
        return _record(image_file, height, width, annotations)


def _image_size(data: dict, json_file: str) -> tuple[int, int]:
    """Return the (height, width) in an annotation file."""
    height, width = data["imgHeight"], data["imgWidth"]
    if not all(type(side) is int and 0 < side < 2**16 for side in (height, width)):
        raise ValueError(
            f"{json_file}: imgHeight and imgWidth are {quoted(height)} and {quoted(width)}; "
            "expected the sizes of an image"
        )
    return height, width


def _category_of(label: str, json_file: str) -> tuple[str, int | None]:
    """Return the name without "group" and the contiguous class, None if not an instance."""
    if label in _OTHER_NAMES or label in _IGNORED_NAMES:
        return label, None
    name = label.removesuffix("group")
    if name in _OTHER_NAMES:
        return label, None
    if name not in _THING_BY_NAME:
        raise ValueError(f"{json_file}: {quoted(label)} is not a Cityscapes label")
    return name, _CONTIGUOUS_ID[_THING_BY_NAME[name]]


def _record_from_ids(job: tuple[str, str], to_polygons: bool) -> dict:
    image_file, id_file = job
    ids = read_labels(id_file)
    annotations = []
    for instance_id in np.unique(ids).tolist():
        # 24001 is the second instance of label 24; a bare 24 is a group that nobody separated.
        label_id = instance_id // 1000 if instance_id >= 1000 else instance_id
        if label_id not in _CONTIGUOUS_ID:
            continue
        mask = (ids == instance_id).astype(np.uint8)
        ys, xs = np.nonzero(mask)
        box = [float(v) for v in (xs.min(), ys.min(), xs.max(), ys.max())]
        if to_polygons:
            contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            segmentation = [c.reshape(-1).tolist() for c in contours if len(c) >= 3]
        else:
            segmentation = mask_util.encode(np.asfortranarray(mask))
        if segmentation and box[2] > box[0] and box[3] > box[1]:  # else it is too thin
            annotations.append(
                {
                    "iscrowd": int(instance_id < 1000),
                    "category_id": _CONTIGUOUS_ID[label_id],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "bbox": box,
                    "segmentation": segmentation,
                }
            )
    return _record(image_file, ids.shape[0], ids.shape[1], annotations)


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict]:
    """Load Cityscapes' semantic labels: dicts with `file_name`, `sem_seg_file_name` and size.

    Args:
        image_dir: such as "cityscapes/leftImg8bit/train".
        gt_dir: such as "cityscapes/gtFine/train".
    Raises:
        FileNotFoundError: a folder, or a label image of training ids, is missing.
    """
    records = []
    for city, image_file in list_images(image_dir):
        label_file = _label_file(gt_dir, city, image_file, "labelTrainIds.png")
        json_file = _label_file(gt_dir, city, image_file, "polygons.json")
        data = read_json(json_file)
        with dataset_errors(json_file):
            height, width = _image_size(data, json_file)
        records.append(
            {
                "file_name": image_file,
                "sem_seg_file_name": label_file,
                "height": height,
                "width": width,
            }
        )
    return records


def main() -> None:
    """`python -m d2lite.data.datasets.cityscapes IMAGE_DIR GT_DIR TYPE` draws the data.

    TYPE is "instance" or "semantic".
    """
    from d2lite.data.datasets.preview import preview_main

    def load(image_dir: str, gt_dir: str, kind: str):
        loaders = {"instance": load_cityscapes_instances, "semantic": load_cityscapes_semantic}
        metadata = Metadata(name="cityscapes").set(**get_builtin_metadata("cityscapes"))
        return loaders[kind](image_dir, gt_dir), metadata

    preview_main(load, ["image_dir", "gt_dir", "type"], "cityscapes-data-vis")


if __name__ == "__main__":
    main()
