"""WIDER FACE with landmarks, from the text file that RetinaFace's authors released.

    # 0--Parade/0_Parade_marchingband_1_849.jpg
    449 330 122 149 488.906 373.643 0.0 542.089 376.442 0.0 ... 0.82

A line with `#` names an image; each line below it is a face: x, y, width and height in pixels; if
the landmarks were annotated, x, y and a flag for the left eye, the right eye, the nose, and the
left and right corner of the mouth, as seen in the image; and optionally a quality. A flag of 0
means visible, above 0 hidden, and -1 not annotated. As a URI:

    widerface:label.txt?images=DIR     images default to the folder `images` next to the file
"""

import logging
import os

import numpy as np

from d2lite.data.catalog import ResolvedDataset, register_scheme
from d2lite.data.datasets.uri import parse_dataset_uri
from d2lite.data.image_io import read_image_size
from d2lite.structures import BoxMode
from d2lite.utils.file_io import PathManager, read_text

logger = logging.getLogger(__name__)

NUM_LANDMARKS = 5
# Numbers of a face: box; box and landmarks; box, landmarks and quality.
_ROW_LENGTHS = (4, 4 + 3 * NUM_LANDMARKS, 5 + 3 * NUM_LANDMARKS)

FACE_METADATA = {
    "thing_classes": ["face"],
    "keypoint_names": ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"],
    "keypoint_flip_map": [("left_eye", "right_eye"), ("left_mouth", "right_mouth")],
    "evaluator_type": "landmarks",
}


def register_widerface() -> None:
    """Register the scheme `widerface:` with the catalogs."""
    register_scheme("widerface", _resolve)


def load_widerface(label_file: str, image_root: str) -> list[dict]:
    """Read faces and landmarks.

    Args:
        label_file: path of the file; its format is described at the top of this module.
        image_root: folder to which the image names in the file are relative.
    Returns:
        Dataset dicts. All faces have keypoints, with visibility 0 if not annotated. Empty boxes, of
        which the file has some, are left out.
    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a line is malformed; the message has its number.
    """
    records: list[dict] = []
    dropped = 0
    for number, line in enumerate(read_text(label_file).split("\n"), start=1):
        if line.startswith("#"):
            path = os.path.join(image_root, line[1:].strip())
            height, width = read_image_size(path)
            records.append(
                {
                    "file_name": path,
                    "image_id": len(records),
                    "height": height,
                    "width": width,
                    "annotations": [],
                }
            )
        elif line.strip():
            face = _face(line, f"{label_file}:{number}")
            if not records:
                raise ValueError(f"{label_file}:{number}: a face before any '# IMAGE' line")
            if min(face["bbox"][2:]) > 0:
                records[-1]["annotations"].append(face)
            else:
                dropped += 1
    if not records:
        raise ValueError(f"{label_file}: no line names an image, such as '# folder/name.jpg'")
    logger.info("%s: %s images; %s empty boxes were left out", label_file, len(records), dropped)
    return records


def _face(line: str, where: str) -> dict:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; expected numbers, or '# IMAGE'") from None
    if len(numbers) not in _ROW_LENGTHS:
        raise ValueError(
            f"{where}: a face has {' or '.join(map(str, _ROW_LENGTHS))} numbers, found "
            f"{len(numbers)}"
        )
    return {
        "bbox": numbers[:4],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "keypoints": _keypoints(numbers[4 : 4 + 3 * NUM_LANDMARKS]),
        "iscrowd": 0,
    }


def _keypoints(numbers: list[float]) -> list[float]:
    """Return x, y and COCO's visibility of each landmark."""
    if not numbers:
        return [0.0] * (3 * NUM_LANDMARKS)
    points = np.array(numbers).reshape(-1, 3)
    flag = points[:, 2].copy()
    points[:, 2] = np.select([flag < 0, flag == 0], [0, 2], default=1)
    points[flag < 0] = 0
    return points.ravel().tolist()


def _resolve(uri: str) -> ResolvedDataset:
    parsed = parse_dataset_uri(uri, ("images",))
    if parsed.classes is not None:
        raise ValueError(f"dataset {uri!r}: 'widerface:' has one class, 'face'; leave classes out")
    beside = os.path.join(os.path.dirname(parsed.path), "images")
    images = os.path.expanduser(parsed.options.get("images", beside))
    if not PathManager.isfile(parsed.path):
        raise FileNotFoundError(f"dataset {uri!r}: file not found: {parsed.path!r}")
    if not PathManager.isdir(images):
        raise FileNotFoundError(
            f"dataset {uri!r}: image folder {images!r} not found; give it as '?images=DIR'"
        )
    return ResolvedDataset(
        lambda: load_widerface(parsed.path, images), {**FACE_METADATA, "image_root": images}
    )
