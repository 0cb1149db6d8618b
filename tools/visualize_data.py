#!/usr/bin/env python3
"""Draw samples of a dataset or a data loader, to check boxes, masks and classes.

    python tools/visualize_data.py --dataset shapes_train --num 12
    python tools/visualize_data.py --dataset "voc:~/cells?split=train" --output-dir seen
    python tools/visualize_data.py --source dataloader --config-file configs/quick_start.yaml

`annotation` draws images and labels as they are read; `dataloader` draws the model's inputs in
training, after augmentation.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from d2lite.config import CfgNode
from d2lite.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from d2lite.data.datasets.preview import draw_dataset_dicts, save_pictures
from d2lite.data.detection_utils import convert_image_to_rgb
from d2lite.engine import config_from_args
from d2lite.utils.cli import report_user_errors
from d2lite.utils.logger import setup_logger
from d2lite.visualization import Visualizer

Pictures = Iterator[tuple[str, np.ndarray]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", choices=["annotation", "dataloader"], default="annotation")
    parser.add_argument("--config-file", default="", metavar="FILE", help="names the datasets")
    parser.add_argument(
        "--dataset", metavar="NAME_OR_URI", help="draw this dataset, not DATASETS.TRAIN"
    )
    parser.add_argument("--num", type=int, default=20, help="how many images; 0 for all")
    parser.add_argument("--output-dir", default="visualizations")
    parser.add_argument("--show", action="store_true", help="also open a window for each picture")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config changes: KEY VALUE ...")
    return parser.parse_args(argv)


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the config with --dataset; raise a ValueError if there is no dataset."""
    cfg = config_from_args(args)
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    if args.dataset:
        cfg.DATASETS.TRAIN = (args.dataset,)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("no dataset given; use --dataset NAME_OR_URI or --config-file FILE")
    cfg.freeze()
    return cfg


def annotations(cfg: CfgNode) -> Pictures:
    """Yield drawings of the datasets in DATASETS.TRAIN, one after another."""
    for name in cfg.DATASETS.TRAIN:
        yield from draw_dataset_dicts(DatasetCatalog.get(name), MetadataCatalog.get(name))


def training_samples(cfg: CfgNode) -> Pictures:
    """Yield drawings of samples of the training loader, endlessly."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    for batch in build_detection_train_loader(cfg):
        for sample in batch:
            image = sample["image"].permute(1, 2, 0)  # (H, W, C)
            visualizer = Visualizer(convert_image_to_rgb(image, cfg.INPUT.FORMAT), metadata)
            draw_sample(visualizer, sample)
            yield str(sample["file_name"]), visualizer.get_output().get_image()


def draw_sample(visualizer: Visualizer, sample: dict) -> None:
    """Draw the ground truth of one mapped sample."""
    if "instances" in sample:
        fields = sample["instances"].get_fields()
        names = visualizer.metadata.get("thing_classes", [])
        visualizer.overlay_instances(
            labels=[names[i] for i in fields["gt_classes"]],
            boxes=fields.get("gt_boxes"),
            masks=fields.get("gt_masks"),
            keypoints=fields.get("gt_keypoints"),
        )
    if "sem_seg" in sample:
        visualizer.draw_sem_seg(sample["sem_seg"], area_threshold=0, alpha=0.5)


def check_display() -> None:
    """Raise a ValueError if no window can open, before each viewer prints long errors."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise ValueError("--show needs a display, but there is none; leave it out")


def shown(pictures: Pictures) -> Pictures:
    """Yield the same pictures, and open each in the system's viewer."""
    for file_name, picture in pictures:
        Image.fromarray(picture).show(title=file_name)
        yield file_name, picture


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and save, and print where."""
    args = parse_args(argv)
    setup_logger()
    with report_user_errors():
        if args.show:
            check_display()
        cfg = setup(args)
        pictures = annotations(cfg) if args.source == "annotation" else training_samples(cfg)
        endless = args.source == "dataloader" and args.num == 0
        if endless:
            raise ValueError("a training loader never ends; give --num")
        pictures = itertools.islice(pictures, args.num or None)
        paths = save_pictures(shown(pictures) if args.show else pictures, args.output_dir)
        print(f"Drew {len(paths)} images into {args.output_dir}")


if __name__ == "__main__":
    main()
