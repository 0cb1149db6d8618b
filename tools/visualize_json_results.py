#!/usr/bin/env python3
"""Draw the predictions of a results file next to the ground truth.

    python tools/visualize_json_results.py --input output/inference/coco_instances_results.json \\
        --dataset shapes_val --output drawn --conf-threshold 0.5

COCOEvaluator and LVISEvaluator write such files to their output folder; any list of results in
COCO's format works.
"""

import argparse
import itertools
import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from d2lite.data import DatasetCatalog, Metadata, MetadataCatalog
from d2lite.data.datasets.coco_export import category_ids
from d2lite.data.detection_utils import read_image
from d2lite.evaluation.coco_json import coco_json_to_instances
from d2lite.evaluation.drawing import (
    draw_ground_truth,
    draw_output,
    picture_name,
    save_picture,
    side_by_side,
)
from d2lite.utils.cli import report_user_errors
from d2lite.utils.file_io import PathManager
from d2lite.utils.json_files import read_json
from d2lite.utils.logger import setup_logger


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, metavar="FILE", help="json file of predictions")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--dataset", required=True, metavar="NAME_OR_URI")
    parser.add_argument("--conf-threshold", type=float, default=0.5, help="minimum score to draw")
    parser.add_argument("--num", type=int, default=0, help="how many images; 0 for all")
    return parser.parse_args(argv)


def read_predictions(path: str) -> dict[int | str, list[dict]]:
    """Return the results of a file by image id.

    Raises:
        ValueError: the file is not a list of results in COCO's format.
    """
    rows = read_json(path)
    by_image: dict[int | str, list[dict]] = defaultdict(list)
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        needed = ("image_id", "category_id", "score", "bbox")
        missing = [key for key in needed if not isinstance(row, dict) or key not in row]
        if missing:
            raise ValueError(f"{path}: entry {number} has no {missing[0]!r}; expected a list of "
                             "results with image_id, category_id, bbox and score")  # fmt: skip
        by_image[row["image_id"]].append(row)
    return by_image


def draw(record: dict, predictions: list[dict], metadata: Metadata) -> np.ndarray:
    """Draw predictions and ground truth of one image side by side."""
    image = read_image(record["file_name"], "RGB", expected=record)
    to_index = {category: index for index, category in category_ids(metadata).items()}
    instances = coco_json_to_instances(predictions, image.shape[:2], to_index)
    return side_by_side(
        {
            "predictions": draw_output(image, {"instances": instances}, metadata, 0.0),
            "ground truth": draw_ground_truth(image, record, metadata),
        }
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and save, and print where."""
    args = parse_args(argv)
    setup_logger()
    with report_user_errors():
        by_image = read_predictions(args.input)
        records = DatasetCatalog.get(args.dataset)
        metadata = MetadataCatalog.get(args.dataset)
        PathManager.mkdirs(args.output)
        chosen = list(itertools.islice(records, args.num or None))
        taken: set[str] = set()
        for record in tqdm(chosen, unit="image", disable=None):
            rows = by_image.get(record["image_id"], [])
            kept = [row for row in rows if row["score"] >= args.conf_threshold]
            picture = draw(record, kept, metadata)
            name = picture_name(record["file_name"], record["image_id"], taken)
            save_picture(picture, os.path.join(args.output, f"{name}.jpg"))
        print(f"Drew {len(chosen)} images into {args.output}")


if __name__ == "__main__":
    main()
