#!/usr/bin/env python3
"""Convert the weights of a torchvision Faster R-CNN on MobileNet features for d2lite.

python projects/MobileNet/convert_faster_rcnn.py SOURCE.pth TARGET.pth
"""

import argparse

from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.projects.mobilenet import convert_faster_rcnn
from d2lite.utils.cli import report_user_errors
from d2lite.utils.file_io import PathManager


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="state dict written by torch.save: a path or URL")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args()
    with report_user_errors():
        weights = read_checkpoint_file(PathManager.get_local_path(args.source))
        save_checkpoint_file({"model": convert_faster_rcnn(weights)}, args.target)
        print(f"Wrote {args.target}")


if __name__ == "__main__":
    main()
