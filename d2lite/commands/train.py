"""Train a detector on your own images, or as a config says.

examples:
  d2lite train --data photos/                            a layout that is found by looking
  d2lite train --config COCO-Detection/faster_rcnn_R_50_FPN_1x --num-gpus 8
  d2lite train --data photos/ --epochs 20 --imgsz 640 --batch 8 --name cells SEED 2
  d2lite train --resume --name cells                     go on with the latest of these runs
"""

import argparse
from typing import Any

from d2lite.utils.arguments import add_overrides, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.usage = "d2lite train [--data PATH] [--config NAME] [options] [KEY VALUE ...]"
    own = parser.add_argument_group("own data")
    own.add_argument("--data", metavar="PATH", help="folder or file with images and labels")
    own.add_argument("--layout", metavar="NAME", help="of --data, where looking is not enough")
    own.add_argument(
        "--val-share", type=float, default=0.2, metavar="X", help="where no split exists: 0.2"
    )
    short = parser.add_argument_group("short names of config keys")
    short.add_argument("--epochs", type=float, metavar="N", help="SOLVER.MAX_ITER")
    short.add_argument("--batch", type=int, metavar="N", help="SOLVER.IMS_PER_BATCH")
    short.add_argument("--imgsz", type=int, metavar="N", help="INPUT sizes: the long side, pixels")
    short.add_argument("--lr", type=float, metavar="X", help="SOLVER.BASE_LR")
    short.add_argument("--weights", metavar="PATH", help="MODEL.WEIGHTS; also a run, coco, none")
    short.add_argument("--device", metavar="NAME", help="MODEL.DEVICE")
    short.add_argument("--name", default="train", help="OUTPUT_DIR is runs/NAME-N (train)")
    add_run_arguments(parser)
    add_overrides(parser, anywhere=True)


def run(args: argparse.Namespace) -> None:
    """Train, in as many processes as asked for."""
    from d2lite.engine import launch_program

    launch_program(main, args)


def main(args: argparse.Namespace) -> Any:
    """What each process does."""
    from d2lite.config.files import find_config
    from d2lite.engine import TrainerWithTTA, lazy_program, train_or_evaluate
    from d2lite.utils import comm

    args.config_file = find_config(args.config_file)
    if args.config_file.endswith(".py"):
        given = [name for name in _SHORT if getattr(args, name) is not None]
        if given:
            raise ValueError(
                f"--{given[0]} is for yaml configs; {args.config_file} is a Python config, which "
                "takes overrides such as train.max_iter=100"
            )
        return lazy_program.main(args)
    if args.eval_only:
        return train_or_evaluate(args, TrainerWithTTA)
    settings = _settings(args)
    args.opts = [str(word) for pair in settings.items() for word in pair] + args.opts
    result = train_or_evaluate(args, TrainerWithTTA)
    if comm.is_main_process():
        folder = settings.get("OUTPUT_DIR") or args.opts[args.opts.index("OUTPUT_DIR") + 1]
        print(
            f"\nThe run is in {folder}: results.png, metrics.json, weights.\n"
            f"  d2lite predict PHOTO_OR_FOLDER --weights {folder}\n"
            f"  d2lite eval --weights {folder}"
        )
    return result


_SHORT = ("data", "epochs", "batch", "imgsz", "lr", "weights", "device")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the flags stand for, shown; `args` gets the config that was chosen."""
    import os

    from d2lite.commands import own_data
    from d2lite.engine import config_from_args
    from d2lite.engine.from_checkpoint import weights_of_run
    from d2lite.utils import comm

    overrides = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    folder = overrides.get("OUTPUT_DIR", "")
    settings: dict[str, Any] = {}
    if not folder:
        folder = settings["OUTPUT_DIR"] = own_data.run_folder_for(args.name, resume=args.resume)
    kept = os.path.join(folder, "config.yaml")
    if args.resume and not (args.config_file or args.data) and os.path.isfile(kept):
        args.config_file = kept
    if not (args.config_file or args.data):
        raise ValueError("nothing to train on: give --data PATH or --config NAME")

    lines: list[str] = []
    data = None
    if args.data:
        data = own_data.register_data(
            args.data, folder, val_share=args.val_share, layout=args.layout
        )
        lines += [f"data: {data.summary()}", *(f"  {note}" for note in data.notes)]
    weights = {"none": "", None: None}.get(args.weights, args.weights)
    choice = None
    if not args.config_file:
        device = own_data.chosen_device(args.device or overrides.get("MODEL.DEVICE"))
        choice = own_data.choose_model(set(data.kinds), device, weights)
        from d2lite.config.files import find_config

        args.config_file = find_config(choice.config)
        settings |= choice.settings
        lines.append(f"config: {choice.config} ({choice.reason})")
    settings["PLOT_RESULTS"] = True
    if weights is not None and weights != "coco":
        settings["MODEL.WEIGHTS"] = weights_of_run(weights) if weights else ""
    if args.device:
        settings["MODEL.DEVICE"] = args.device
    if args.imgsz:
        settings |= {f"INPUT.MAX_SIZE_{when}": args.imgsz for when in ("TRAIN", "TEST")}
        settings |= {"INPUT.MIN_SIZE_TRAIN": (args.imgsz,), "INPUT.MIN_SIZE_TEST": args.imgsz}

    def merged() -> Any:
        words = [str(word) for pair in settings.items() for word in pair] + args.opts
        return config_from_args(
            argparse.Namespace(config_file=args.config_file, opts=words, eval_only=False)
        )

    if data is not None:
        settings |= own_data.fit_to_data(merged(), data.train, data.val)
    cfg = merged()
    if args.batch or args.lr:
        batch = args.batch or cfg.SOLVER.IMS_PER_BATCH
        settings["SOLVER.BASE_LR"] = (
            args.lr or cfg.SOLVER.BASE_LR * batch / cfg.SOLVER.IMS_PER_BATCH
        )
        settings["SOLVER.IMS_PER_BATCH"] = batch
    cfg = merged()
    if args.epochs or choice is not None:
        count = own_data.number_of_images(cfg.DATASETS.TRAIN)
        settings |= own_data.schedule_for(cfg, count, args.epochs, choice)
    settings = {key: value for key, value in settings.items() if key not in overrides}
    if comm.is_main_process():
        print("\n".join([*lines, "settings:", *(f"  {k} {v}" for k, v in settings.items())]))
    return settings
