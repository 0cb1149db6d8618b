"""Train a detector on your own images, or from a config.

examples:
  d2lite train --data photos/                            the layout is detected
  d2lite train --config COCO-Detection/faster_rcnn_R_50_FPN_1x --num-gpus 8
  d2lite train --data photos/ --epochs 20 --imgsz 640 --batch 8 --name cells SEED 2
  d2lite train --resume --name cells                     resume the latest of these runs
"""

import argparse
from typing import Any

from d2lite.utils.arguments import add_overrides, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite train [--data PATH] [--config NAME] [options] [KEY VALUE ...]"
    own = parser.add_argument_group("own data")
    own.add_argument("--data", metavar="PATH", help="folder or file with images and labels")
    own.add_argument("--layout", metavar="NAME", help="of --data, if it is not recognized")
    own.add_argument(
        "--val-share", type=float, default=0.2, metavar="X", help="if no split exists (0.2)"
    )
    short = parser.add_argument_group("short names of config keys")
    short.add_argument("--epochs", type=float, metavar="N", help="SOLVER.MAX_ITER")
    short.add_argument("--batch", type=int, metavar="N", help="SOLVER.IMS_PER_BATCH")
    short.add_argument("--imgsz", type=int, metavar="N", help="INPUT sizes: the long side, pixels")
    short.add_argument("--lr", type=float, metavar="X", help="SOLVER.BASE_LR")
    short.add_argument(
        "--find-lr", action="store_true", help="suggest an --lr by a short trial, and exit"
    )
    short.add_argument("--weights", metavar="PATH", help="MODEL.WEIGHTS; also a run, coco, none")
    short.add_argument("--device", metavar="NAME", help="MODEL.DEVICE")
    short.add_argument("--name", default="train", help="OUTPUT_DIR is runs/NAME-N (train)")
    add_run_arguments(parser)
    add_overrides(parser, anywhere=True)


def run(args: argparse.Namespace) -> None:
    """Train, in the requested number of processes."""
    from d2lite.engine import launch_program

    launch_program(main, args)


def main(args: argparse.Namespace) -> Any:
    """Run one process of the program."""
    from d2lite.commands.training_plan import apply_plan
    from d2lite.config.files import find_config
    from d2lite.engine import TrainerWithTTA, lazy_program, train_or_evaluate
    from d2lite.utils import comm

    args.config_file = find_config(args.config_file)
    if args.config_file.endswith(".py"):
        given = [name for name in _SHORT if getattr(args, name) is not None]
        given += ["find-lr"] if args.find_lr else []
        if given:
            raise ValueError(
                f"--{given[0]} is for yaml configs; {args.config_file} is a Python config, which "
                "takes overrides such as train.max_iter=100"
            )
        return lazy_program.main(args)
    if args.eval_only:
        return train_or_evaluate(args, TrainerWithTTA)
    folder = apply_plan(args)
    if args.find_lr:
        from d2lite.engine.lr_finder import find_lr_program

        sweep = find_lr_program(args)
        print(f"\nsuggested: --lr {sweep.suggested:.2g}  ({folder}/lr_finder.png)")
        return sweep
    result = train_or_evaluate(args, TrainerWithTTA)
    if comm.is_main_process():
        print(
            f"\nThe run is in {folder}: results.png, metrics.json, weights.\n"
            f"  d2lite predict PHOTO_OR_FOLDER --weights {folder}\n"
            f"  d2lite report {folder}"
        )
    return result


_SHORT = ("data", "epochs", "batch", "imgsz", "lr", "weights", "device")
