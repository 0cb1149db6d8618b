"""Random COCO-style datasets with everything that makes matching hard."""

import copy

import numpy as np
from pycocotools.coco import COCO

HEIGHT, WIDTH = 200, 240
CATEGORIES = [1, 4, 7, 9]  # 7 has no ground truth; 9 has no detections


def random_coco(seed: int, num_keypoints: int = 17) -> tuple[dict, list[dict]]:
    """A dataset and detections on it.

    It has crowds, tied scores and boxes, areas on both sides of (and exactly on) the limits,
    objects without visible keypoints, and images without ground truth, detections or both.
    """
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    images = [{"id": 3 * i + 1, "height": HEIGHT, "width": WIDTH} for i in range(12)]
    for index, image in enumerate(images):
        for _ in range(0 if index in (3, 7) else rng.integers(1, 9)):
            annotations.append(_annotation(rng, image["id"], len(annotations) + 1, num_keypoints))
        own = [a for a in annotations if a["image_id"] == image["id"]]
        if index not in (5, 7):
            detections += _detections(rng, image["id"], own, num_keypoints)
    categories = [{"id": c, "name": f"c{c}"} for c in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def load_pair(dataset: dict, detections: list[dict]) -> tuple[COCO, COCO]:
    """pycocotools objects of both, made from copies: evaluation writes into annotations."""
    truth = COCO()
    truth.dataset = copy.deepcopy(dataset)
    truth.createIndex()
    return truth, truth.loadRes(copy.deepcopy(detections))


def _annotation(rng, image_id: int, ann_id: int, num_keypoints: int) -> dict:
    box = _box(rng)
    crowd = int(rng.random() < 0.2)
    area = float(rng.choice([box[2] * box[3], 0.6 * box[2] * box[3], 32.0**2, 96.0**2]))
    keypoints = _keypoints(rng, box, num_keypoints)
    if rng.random() < 0.2:
        keypoints[2::3] = [0] * num_keypoints
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": int(rng.choice([1, 4, 9])),
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
        "segmentation": _crowd_rle(box) if crowd else [_polygon(box)],
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
    }


def _detections(rng, image_id: int, own: list[dict], num_keypoints: int) -> list[dict]:
    sources = [(a["bbox"], a["category_id"], a) for a in own for _ in range(rng.integers(0, 4))]
    sources += [(_box(rng), 1, None) for _ in range(rng.integers(0, 5))]
    if rng.random() < 0.2:  # more than 100 of one category in one image
        sources += [(_box(rng), 1, None) for _ in range(120)]
    found = []
    for box, category, annotation in sources:
        exact = rng.random() < 0.3
        noise = rng.normal(0, 0 if exact else 3, 4)
        moved = [float(v) for v in np.round(np.maximum(np.array(box) + noise, [0, 0, 1, 1]), 2)]
        if rng.random() < 0.1:
            category = 7
        found.append(
            {
                "image_id": image_id,
                "category_id": category if category != 9 else 4,
                "bbox": moved,
                "segmentation": _crowd_rle(moved),
                "keypoints": _moved_keypoints(rng, annotation, moved, num_keypoints),
                "score": float(np.round(rng.random(), 1)),  # coarse: many ties
            }
        )
    return found


def _box(rng) -> list[float]:
    side = rng.choice([12.0, 32.0, 60.0, 96.0, 110.0])
    x, y = rng.uniform(0, [WIDTH - side, HEIGHT - side])
    return [float(np.round(v, 2)) for v in (x, y, side, side)]


def _polygon(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + 0.7 * h]


def _crowd_rle(box: list[float]) -> dict:
    from pycocotools import mask as mask_util

    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    x, y, w, h = (int(v) for v in box)
    mask[y : y + h, x : x + w] = 1
    rle = mask_util.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def _keypoints(rng, box: list[float], count: int) -> list[float]:
    xy = rng.uniform(0, 1, (count, 2)) * box[2:] + box[:2]
    visibility = rng.integers(0, 3, (count, 1))
    return [float(v) for v in np.concatenate([np.round(xy, 2), visibility], axis=1).ravel()]


def _moved_keypoints(rng, annotation: dict | None, box: list[float], count: int) -> list[float]:
    if annotation is None:
        return _keypoints(rng, box, count)
    keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
    keypoints[:, :2] += np.round(rng.normal(0, rng.choice([0, 1, 4]), (count, 2)), 2)
    return [float(v) for v in keypoints.ravel()]
