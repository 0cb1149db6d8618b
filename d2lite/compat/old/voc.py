"""VOC's evaluation of files, for evaluators that write and read them like detectron2's."""

from collections.abc import Sequence

import numpy as np

from d2lite.data.datasets.pascal_voc import read_image_list, read_voc_objects
from d2lite.evaluation.voc_ap import VocDetections, VocObjects, average_precision
from d2lite.utils.file_io import read_text


def parse_rec(filename: str) -> list[dict]:
    """Return the objects of a VOC annotation file (`read_voc_objects`) that have an area.

    Returns:
        Dicts with "name", "pose", "truncated", "difficult" and "bbox" (xmin, ymin, xmax, ymax).
    """
    _, objects = read_voc_objects(filename, needs_size=False)
    return [o for o in objects if o["bbox"][2] > o["bbox"][0] and o["bbox"][3] > o["bbox"][1]]


def objects_of_class(records: dict[str, list[dict]], classname: str) -> dict[str, VocObjects]:
    """Return the ground truth of one class by image, from `parse_rec` of every image."""
    truth = {}
    for image_id, record in records.items():
        kept = [obj for obj in record if obj["name"] == classname]
        boxes = np.array([obj["bbox"] for obj in kept], dtype=float).reshape(-1, 4)
        truth[image_id] = VocObjects(boxes, np.array([o["difficult"] for o in kept], dtype=bool))
    return truth


def voc_eval(
    detpath: str,
    annopath: str,
    imagesetfile: str,
    classname: str,
    ovthresh: float = 0.5,
    use_07_metric: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Evaluate a file of detections of one class.

    Args:
        detpath: path of the detections; `{}` stands for the class name. A line is "image score
            xmin ymin xmax ymax", with pixels counted from 1.
        annopath: path of the XML files; `{}` stands for the image name.
        imagesetfile: path of the list of images, one per line.
        ovthresh: minimum IoU of a detection with the object that it detects.
        use_07_metric: compute AP from 11 points, as in VOC 2007.
    Returns:
        recall and precision after each detection, by descending score, and the AP in [0, 1].
    """
    records = {i: parse_rec(annopath.format(i)) for i in read_image_list(imagesetfile)}
    detections = read_detections(read_text(detpath.format(classname)).split("\n"))
    truth = objects_of_class(records, classname)
    return average_precision(detections, truth, ovthresh, use_07_metric)


def read_detections(lines: Sequence[str]) -> VocDetections:
    """Parse lines of "image score xmin ymin xmax ymax"; image names may have spaces."""
    rows = [line.rsplit(maxsplit=5) for line in lines if line.strip()]
    values = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 5)
    return VocDetections([row[0].strip() for row in rows], values[:, 0], values[:, 1:])
