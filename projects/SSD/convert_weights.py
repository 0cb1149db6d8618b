#!/usr/bin/env python3
"""Write weights of torchvision for the models of this project.

python projects/SSD/convert_weights.py torchvision://vgg16 vgg16_ssd.pth
python projects/SSD/convert_weights.py torchvision://ssd300_vgg16 ssd300_coco.pth

The first starts a training of SSD300 or SSD512. The second, and ssdlite320_mobilenet_v3_large, are
detectors for COCO: of their 90 classes the 80 that COCO has are kept. A detector trained on
other data needs no conversion: give its file as MODEL.WEIGHTS.
"""

import argparse
from collections.abc import Mapping

from torch import Tensor

from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.projects.ssd import convert_ssd, convert_vgg16
from d2lite.utils.cli import report_user_errors
from d2lite.utils.file_io import PathManager


def convert(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert what the names show to be VGG-16 or an SSD; ValueError for anything else."""
    if "classifier.3.weight" in weights and "features.28.weight" in weights:
        return convert_vgg16(weights)
    if "head.classification_head.module_list.0.1.weight" in weights or (
        "head.classification_head.module_list.0.weight" in weights
    ):
        return convert_ssd(weights, num_classes=91)
    raise ValueError(f"{source} is neither torchvision's VGG-16 nor its SSD or SSDLite")


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="path, URL or torchvision://NAME")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args()
    with report_user_errors():
        weights = read_checkpoint_file(PathManager.get_local_path(args.source))
        save_checkpoint_file({"model": convert(weights, args.source)}, args.target)
        print(f"Wrote {args.target}")


if __name__ == "__main__":
    main()
