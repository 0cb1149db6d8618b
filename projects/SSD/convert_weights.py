#!/usr/bin/env python3
"""Convert weights of torchvision for the models of this project.

python projects/SSD/convert_weights.py torchvision://vgg16 vgg16_ssd.pth
python projects/SSD/convert_weights.py torchvision://mobilenet_v3_large mobilenet_ssdlite.pth
python projects/SSD/convert_weights.py torchvision://ssd300_vgg16 ssd300_coco.pth

The first result is for starting the training of SSD300 or SSD512, the second one for SSDLite with
MODEL.SSD.MOBILENET_REDUCED_TAIL False. The third, and ssdlite320_mobilenet_v3_large, are detectors
for COCO: of their 90 classes, the 80 that COCO has are kept. A detector trained on other data needs
no conversion: use its file as MODEL.WEIGHTS.
"""

import argparse
from collections.abc import Mapping

from torch import Tensor

from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.projects.ssd import convert_mobilenet, convert_ssd, convert_vgg16
from d2lite.utils.cli import report_user_errors
from d2lite.utils.file_io import PathManager


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of VGG-16, an SSD or a MobileNet, recognized by their names.

    Raises:
        ValueError: the names belong to none of these.
    """
    if "classifier.3.weight" in weights and "features.28.weight" in weights:
        return convert_vgg16(weights)
    if "head.classification_head.module_list.0.1.weight" in weights or (
        "head.classification_head.module_list.0.weight" in weights
    ):
        return convert_ssd(weights, num_classes=91)
    return convert_mobilenet(weights)


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
        save_checkpoint_file({"model": convert(weights)}, args.target)
        print(f"Wrote {args.target}")


if __name__ == "__main__":
    main()
