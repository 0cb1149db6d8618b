#!/usr/bin/env python3
"""Make point annotations from the masks of a COCO file.

    python projects/PointSup/tools/prepare_coco_point_annotations_without_masks.py 10

This reads `coco/annotations/instances_train2017.json` in the folder of datasets and writes
`instances_train2017_n10_v1_without_masks.json` next to it: each object has ten random points in its
box, labeled by whether they lie on the object, in place of its mask.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from d2lite.data.datasets.builtin import datasets_root
from d2lite.projects.point_sup import sample_point_annotation
from d2lite.utils.cli import report_user_errors
from d2lite.utils.writing import atomic_write


def with_points(data: dict, num_points: int, seed: int) -> dict:
    """Return the content of a COCO file with points in place of masks.

    Crowds, which are not trained on, get no points.

    Raises:
        ValueError: an annotation has no mask.
    """
    generator = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    annotations = []
    for anno in data["annotations"]:
        kept = {key: value for key, value in anno.items() if key != "segmentation"}
        if not anno.get("iscrowd", 0):
            if "segmentation" not in anno:
                raise ValueError(f"annotation {anno.get('id')} has no 'segmentation' to read")
            size = sizes[anno["image_id"]]
            kept |= sample_point_annotation(
                anno["segmentation"], anno["bbox"], size, num_points, generator
            )
        annotations.append(kept)
    return {**data, "annotations": annotations}


def main() -> None:
    """Write the requested number of files."""
    default = Path(datasets_root(), "coco", "annotations", "instances_train2017.json")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("num_points", type=int, help="number of points per object")
    parser.add_argument(
        "num_versions",
        type=int,
        nargs="?",
        default=1,
        help="number of files, each with different points",
    )
    parser.add_argument("--json", type=Path, default=default, help=f"default: {default}")
    args = parser.parse_args()
    with report_user_errors():
        data = json.loads(args.json.read_text(encoding="utf-8-sig"))
        for version in range(1, args.num_versions + 1):
            name = f"{args.json.stem}_n{args.num_points}_v{version}_without_masks.json"
            path = args.json.with_name(name)
            with atomic_write(path, "w") as file:
                json.dump(with_points(data, args.num_points, seed=version), file)
            print(path)


if __name__ == "__main__":
    main()
