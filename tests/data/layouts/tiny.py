"""Small data to write, read and spoil."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from d2lite.data.layouts import LabeledImages
from d2lite.structures import BoxMode

SIZE = (48, 64)  # height, width
SQUARE = [8.0, 8.0, 28.0, 8.0, 28.0, 32.0, 8.0, 32.0]


def draw(path: Path, seed: int = 0, size=SIZE) -> str:
    """A file with an image that is like no other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def thing(category=0, box=(8, 8, 28, 32), **more):
    """An annotation."""
    box = [float(v) for v in box]
    return {"category_id": category, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, **more}


def record(path: str, *annotations, size=SIZE):
    """A dataset dict."""
    name = os.path.splitext(os.path.basename(path))[0]
    return {
        "file_name": path,
        "image_id": name,
        "height": size[0],
        "width": size[1],
        "annotations": list(annotations),
    }


def labeled(root: Path, things=None, splits=None, names=("cat", "dog"), **more) -> LabeledImages:
    """Six images in train and val, with names that are hard for programs.

    things: annotations of each image; one cat and one dog by default, and none in the third.
    """
    splits = splits or {
        "train": ["a.png", "with spaces.PNG", "empty.png", "größe 猫.png"],
        "val": ["v1.png", "v.2.png"],
    }
    images = root / "photos"
    found, number = {}, 0
    for split, files in splits.items():
        found[split] = []
        for file in files:
            path = draw(images / file, number)
            rows = [thing(0), thing(1, (0.5, 3.25, 63, 40))] if things is None else things(number)
            rows = [] if file == "empty.png" else rows
            found[split].append(record(path, *rows))
            number += 1
    return LabeledImages("coco", str(root), list(names), found, **more)


def facts(data: LabeledImages, split: str) -> dict:
    """Return what must survive a conversion: size and objects of each image, by name."""
    return {
        os.path.basename(one["file_name"]): (
            (one["height"], one["width"]),
            [
                (data.class_names[a["category_id"]], a["bbox"], a["bbox_mode"])
                for a in one["annotations"]
            ],
        )
        for one in data.splits[split]
    }
