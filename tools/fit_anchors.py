#!/usr/bin/env python3
"""Find anchors that fit the boxes of a dataset, for RPN, SSD and YOLO.

    python tools/fit_anchors.py --dataset shapes_train
    python tools/fit_anchors.py --dataset "coco:train.json?images=photos" --formats rpn \\
        INPUT.MIN_SIZE_TEST 640 INPUT.MAX_SIZE_TEST 1024
    python tools/fit_anchors.py --config-file configs/quick_start.yaml --plot anchors.png

Boxes are measured as each detector sees them: for RPN (and RetinaNet), images are resized
according to INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, for SSD to a square, for YOLO into a square. The
output is the settings to use, the mean over all boxes of the IoU with the best anchor, and the
fraction of boxes that an anchor covers. Both are for boxes and anchors with the same center: a grid
of anchors is slightly worse.
"""

import argparse
import itertools
from collections.abc import Sequence

from d2lite.data import DatasetCatalog
from d2lite.data.anchor_fit import (
    FITTERS,
    FORMATS,
    configured_rpn,
    draw,
    iou_of_sizes,
    quality,
    read_sizes,
)
from d2lite.engine import config_from_args
from d2lite.utils.cli import report_user_errors
from d2lite.utils.logger import setup_logger


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", metavar="NAME_OR_URI", help="fit to this dataset, not DATASETS.TRAIN")
    add("--config-file", default="", metavar="FILE", help="names datasets, sizes and anchors")
    add("--formats", default=",".join(FORMATS), help="rpn, ssd, yolo; default: all")
    add("--levels", type=int, default=5, help="RPN: feature maps, one size for each")
    add("--ratios", type=int, default=3, help="RPN: aspect ratios")
    add("--ssd-size", type=int, default=300, help="SSD: side of the images")
    add("--ssd-levels", type=int, default=6, help="SSD: feature maps")
    add("--ssd-ratios", type=int, default=1, help="SSD: aspect ratios besides 1")
    add("--yolo-size", type=int, default=416, help="YOLO: side of the images")
    add("--num", type=int, default=9, help="YOLO: total number of anchors")
    add("--iou", type=float, default=0.5, help="IoU from which a box counts as covered")
    add("--seed", type=int, default=0, help="of the initial centers of k-means")
    add("--plot", default="anchors.png", metavar="FILE", help='default: anchors.png; "" for none')
    add("opts", nargs=argparse.REMAINDER, help="config changes: KEY VALUE ...")
    args = parser.parse_args(argv)
    args.formats = args.formats.split(",")
    unknown = [name for name in args.formats if name not in FORMATS]
    if unknown:
        parser.error(f"--formats: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    for name in ("levels", "ratios", "ssd_size", "ssd_levels", "ssd_ratios", "yolo_size", "num"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, print and draw."""
    args = parse_args(argv)
    setup_logger()
    with report_user_errors():
        cfg = config_from_args(args)
        names = [args.dataset] if args.dataset else list(cfg.DATASETS.TRAIN)
        if not names:
            raise ValueError("no dataset given; use --dataset NAME_OR_URI or --config-file")
        records = list(itertools.chain.from_iterable(DatasetCatalog.get(name) for name in names))
        boxes, images = read_sizes(records)
        print(f"{len(boxes)} boxes in {len(records)} images of {', '.join(names)}")
        fits = [FITTERS[name](boxes, images, args, cfg) for name in args.formats]
        for name, fit in zip(args.formats, fits, strict=True):
            print(f"\n{fit.title}: {quality(fit.best_iou(), args.iou)}\n{fit.text}")
            if name == "rpn":
                iou = iou_of_sizes(fit.boxes, configured_rpn(cfg)).amax(dim=1)
                print(f"The config's own anchors: {quality(iou, args.iou)}")
        if args.plot:
            draw(fits, args.plot)
            print(f"\nDrawn into {args.plot}")


if __name__ == "__main__":
    main()
