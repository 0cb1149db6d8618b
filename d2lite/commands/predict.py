"""Detect objects in images, videos, or a camera stream.

A SOURCE is a file, a folder, a pattern, a text file with a path or URL per line, a URL, or the
number of a camera. Results go to runs/predict-N.

examples:
  d2lite predict photo.jpg clip.mp4 --weights runs/cells-1
  d2lite predict photos/ --weights runs/cells-1 --save drawn,csv --class-threshold RBC=0.7
  d2lite predict aerial.tif --weights runs/cars-2 --tile 800 --overlap 0.2
"""

import argparse

from d2lite.utils.arguments import add_config_argument, split_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite predict SOURCE [SOURCE ...] --weights RUN [options] [KEY VALUE ...]"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="what to detect on")
    parser.add_argument(
        "--weights", required=True, metavar="RUN", help="folder of a run, or a checkpoint"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="X", help="minimum score (0.5)"
    )
    parser.add_argument(
        "--class-threshold",
        action="append",
        default=[],
        metavar="NAME=X,..",
        help="minimum score of individual classes",
    )
    parser.add_argument(
        "--save", default="drawn", metavar="A,B", help="drawn, coco, yolo, csv (drawn)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the results")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (1)")
    parser.add_argument("--tile", type=int, metavar="N", help="side of tiles, for large images")
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.2,
        metavar="X",
        help="of neighboring tiles, as a fraction (0.2)",
    )
    parser.add_argument(
        "--tiles-only", action="store_true", help="do not detect in the whole image as well"
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each video or camera")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Detect; returns 1 if something could not be read."""
    from d2lite.commands.detecting import detect

    words, overrides = split_overrides(args.sources)
    args.sources, args.opts = words, overrides
    args.class_threshold = [part for text in args.class_threshold for part in text.split(",")]
    return detect(args)
