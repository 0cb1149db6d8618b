#!/usr/bin/env python3
"""Detect objects in images, with only a checkpoint.

    python tools/predict.py --weights output/model_final.pth photo.jpg
    python tools/predict.py --weights model_final.pth --score 0.3 --output-dir found photos/*.jpg
    python tools/predict.py --config-file CONFIG.yaml --weights foreign.pkl photo.jpg

It prints the class, score and box of each object, and draws them into PHOTO_detections.jpg; `d2lite
predict` does more, for folders and videos too.
Checkpoints of d2lite contain their config and class names; those of other programs need
--config-file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from d2lite.commands.sources import distinct_names
from d2lite.data.detection_utils import read_image
from d2lite.engine import DefaultPredictor, config_from_args
from d2lite.evaluation.drawing import draw_output, save_picture
from d2lite.structures import Instances
from d2lite.utils.cli import report_user_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--weights", required=True, metavar="FILE", help="path or URL")
    parser.add_argument("--config-file", default="", metavar="FILE")
    parser.add_argument("--score", type=float, default=0.5, help="minimum score to show")
    parser.add_argument("--output-dir", default=".", help="folder of the drawings")
    parser.add_argument("--opts", nargs="+", default=[], help="config changes: KEY VALUE ...")
    return parser.parse_args(argv)


def describe(objects: Instances, classes: Sequence[str]) -> list[str]:
    """Return one line for each object: its class, score and box in pixels."""
    lines = []
    for i in range(len(objects)):
        kind = int(objects.pred_classes[i])
        name = classes[kind] if kind < len(classes) else f"class {kind}"
        box = " ".join(f"{value:.1f}" for value in objects.pred_boxes.tensor[i].tolist())
        lines.append(f"  {name}  {float(objects.scores[i]):.3f}  box {box}")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Detect, print and draw."""
    args = parse_args(argv)
    with report_user_errors():
        args.opts = ["MODEL.WEIGHTS", args.weights, *args.opts]
        predictor = DefaultPredictor(config_from_args(args))
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, name in zip(args.images, distinct_names(args.images), strict=True):
            image = read_image(file_name, "BGR", predictor.cfg.INPUT.MAX_VALUE_16_BIT)
            output = predictor(image)
            picture = draw_output(image[:, :, ::-1], output, predictor.metadata, args.score)
            target = folder / f"{name}_detections.jpg"
            save_picture(picture, str(target))
            print(f"{file_name}: drawn into {target}")
            if "instances" in output:
                found = output["instances"].to("cpu")
                found = found[found.scores >= args.score]
                classes = predictor.metadata.get("thing_classes") or ()
                print("\n".join([f"  {len(found)} objects", *describe(found, classes)]))


if __name__ == "__main__":
    main()
