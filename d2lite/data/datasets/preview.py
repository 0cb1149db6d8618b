"""Drawing a dataset's ground truth on its images, to check that it was read correctly."""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from d2lite.data.catalog import Metadata
from d2lite.data.detection_utils import read_image
from d2lite.visualization import Visualizer


def draw_dataset_dicts(
    records: Iterable[dict], metadata: Metadata
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the file name and an (H, W, 3) RGB drawing of each dataset dict."""
    for record in records:
        image = read_image(record["file_name"], "RGB", expected=record)
        drawing = Visualizer(image, metadata).draw_dataset_dict(record).get_image()
        yield str(record["file_name"]), drawing


def save_pictures(pictures: Iterable[tuple[str, np.ndarray]], output_dir: str) -> list[str]:
    """Write (file name, RGB picture) pairs as JPEG files, and return their paths.

    A number comes before the name of the image, since names may repeat in other folders.
    """
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for index, (file_name, picture) in enumerate(pictures):
        stem = os.path.splitext(os.path.basename(file_name))[0]
        paths.append(os.path.join(output_dir, f"{index:05}_{stem}.jpg"))
        Image.fromarray(picture).save(paths[-1], quality=90)
    return paths


def preview_main(
    load: Callable[..., tuple[list[dict], Metadata]], arguments: list[str], default_dir: str
) -> None:
    """Run the command line program of a format's module: read a dataset and draw it.

    Args:
        load: takes the arguments as strings; returns dataset dicts and metadata.
        arguments: names of the arguments.
        default_dir: folder for the pictures unless --output-dir is given.
    """
    parser = argparse.ArgumentParser(description="Read a dataset and draw its ground truth.")
    for name in arguments:
        parser.add_argument(name)
    parser.add_argument("--output-dir", default=default_dir)
    parser.add_argument("--num", type=int, default=20, help="how many images to draw")
    args = vars(parser.parse_args())
    records, metadata = load(*(args[name] for name in arguments))
    paths = save_pictures(draw_dataset_dicts(records[: args["num"]], metadata), args["output_dir"])
    print(f"Read {len(records)} images; drew {len(paths)} of them into {args['output_dir']}")
