#!/usr/bin/env python3
"""Write weights of Darknet as a checkpoint.

python projects/YOLOv3/convert_weights.py yolov3.weights yolov3.pth
python projects/YOLOv3/convert_weights.py darknet53.conv.74 darknet53.pth
python projects/YOLOv3/convert_weights.py yolov3-voc.weights voc.pth MODEL.YOLOV3.NUM_CLASSES 20

The first is a detector for COCO, the second starts a training. Files of other networks need their
settings: --config-file, or KEY VALUE behind the files.
"""

import argparse
from pathlib import Path

import torch

from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.engine import check_class_counts, config_from_args
from d2lite.modeling import build_model
from d2lite.projects.yolov3 import read_darknet_weights
from d2lite.utils.cli import report_user_errors
from d2lite.utils.file_io import PathManager

CONFIG = Path(__file__).parent / "configs/yolov3_darknet53_416.yaml"


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="path or URL of a .weights file")
    parser.add_argument("target", help="file to write")
    parser.add_argument("--config-file", default=str(CONFIG), help=f"default: {CONFIG.name}")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config changes: KEY VALUE ...")
    args = parser.parse_args()
    with report_user_errors():
        cfg = config_from_args(args)
        check_class_counts(cfg, only_open=True)
        cfg.MODEL.DEVICE = "meta"  # for names and shapes only
        with torch.device("meta"):
            model = build_model(cfg)
        source = PathManager.get_local_path(args.source)
        save_checkpoint_file({"model": read_darknet_weights(source, model)}, args.target)
        print(f"Wrote {args.target}")


if __name__ == "__main__":
    main()
