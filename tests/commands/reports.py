"""Runs with detections made by hand, for reports."""

import json
from pathlib import Path

import cv2
import numpy as np

from d2lite.config import get_cfg

CLASSES = ["cat", "</script><b>dog"]
GOOD = [(7, 3, [10, 10, 100, 100], 0.9), (7, 5, [300, 200, 80, 80], 0.8),
        (8, 3, [50, 50, 60, 60], 0.7)]  # fmt: skip
BAD = [(7, 5, [10, 10, 100, 100], 0.9), (7, 5, [300, 200, 80, 80], 0.8),
       (9, 3, [50, 50, 60, 60], 0.7)]  # fmt: skip


def write_dataset(folder: Path) -> None:
    """Write three images: the first has an object of each class, the second one of class 0."""
    (folder / "photos").mkdir()
    images = []
    for number in range(3):
        gray = np.full((400, 720, 3), 80 * number, np.uint8)
        cv2.imwrite(str(folder / f"photos/{number}.jpg"), gray)
        row = {"id": number + 7, "file_name": f"{number}.jpg", "height": 400, "width": 720}
        images.append(row)
    objects = [(7, 3, [10, 10, 100, 100]), (7, 5, [300, 200, 80, 80]), (8, 3, [50, 50, 60, 60])]
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0,
         "area": box[2] * box[3]}
        for i, (image, category, box) in enumerate(objects)
    ]  # fmt: skip
    categories = [{"id": 3, "name": CLASSES[0]}, {"id": 5, "name": CLASSES[1]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(content))


def make_run(folder: Path, name: str, detections: list) -> str:
    """Write the folder of a run with detections (image id, category, box, score)."""
    run = folder / name
    (run / "inference").mkdir(parents=True)
    cfg = get_cfg()
    cfg.DATASETS.TEST = (f"coco:{folder}/val.json?images={folder}/photos",)
    cfg.SOLVER.IMS_PER_BATCH = 8
    (run / "config.yaml").write_text(cfg.dump())
    lines = [{"iteration": i, "total_loss": 2.0 / (i + 1), "time": 0.5} for i in range(5)]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    (run / "log.txt").write_text(
        "[01/01 00:00:00] d2 INFO: Environment:\n----\nPython  3.11\n----\nPyTorch built with:\n"
    )
    keys = ("image_id", "category_id", "bbox", "score")
    rows = [dict(zip(keys, row, strict=True)) for row in detections]
    (run / "inference/coco_instances_results.json").write_text(json.dumps(rows))
    return name
