"""Compute the metrics of a trained model, such as COCO's AP.

examples:
  d2lite eval --weights runs/train-1                     on the test set of its config
  d2lite eval --weights runs/train-1 --data other/photos --split all
"""

import argparse

from d2lite.utils.arguments import add_overrides, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite eval --weights RUN [options] [KEY VALUE ...]"
    parser.add_argument("--weights", metavar="RUN", help="folder of a run, or a checkpoint")
    parser.add_argument("--data", metavar="PATH", help="images and labels, in any common layout")
    parser.add_argument(
        "--split",
        default="val",
        choices=["train", "val", "test", "all"],
        help="the part of --data (default: val)",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--name", default="eval", help="results go to runs/NAME-N")
    add_run_arguments(parser)
    add_overrides(parser, anywhere=True)


def run(args: argparse.Namespace) -> None:
    """Evaluate, in the requested number of processes."""
    from d2lite.engine import launch_program

    args.eval_only = True
    launch_program(main, args)


def main(args: argparse.Namespace) -> None:
    """Run one process of the program."""
    from d2lite.commands.own_data import register_data, run_folder_for
    from d2lite.config.files import find_config
    from d2lite.engine import TrainerWithTTA, lazy_program, train_or_evaluate
    from d2lite.engine.from_checkpoint import weights_of_run
    from d2lite.utils import comm

    args.config_file = find_config(args.config_file)
    if args.config_file.endswith(".py"):
        if args.weights:
            args.opts.insert(0, f"train.init_checkpoint={weights_of_run(args.weights)}")
        if args.data:
            raise ValueError("--data is for yaml configs; a Python config names its own datasets")
        lazy_program.main(args)
        return
    keys = args.opts[::2]
    settings = {}
    if args.weights:
        settings["MODEL.WEIGHTS"] = weights_of_run(args.weights)
    elif "MODEL.WEIGHTS" not in keys and not (args.config_file or args.resume):
        raise ValueError("give the weights to evaluate: --weights RUN")
    if args.device:
        settings["MODEL.DEVICE"] = args.device
    if "OUTPUT_DIR" not in keys:
        settings["OUTPUT_DIR"] = run_folder_for(args.name, resume=args.resume)
    if args.data:
        data = register_data(args.data, settings.get("OUTPUT_DIR", ""))
        every = f"{data.train.partition('?')[0]}?split=all&layout={data.layout}"
        names = {"train": data.train, "val": data.val, "test": data.test, "all": every}
        if names[args.split] is None:
            raise ValueError(f"--split {args.split}: {args.data} has no such part")
        settings["DATASETS.TEST"] = repr((names[args.split],))
    args.opts = [word for pair in settings.items() for word in pair] + args.opts
    train_or_evaluate(args, TrainerWithTTA)
    folder = settings.get("OUTPUT_DIR")
    if comm.is_main_process() and folder:
        print(f"The detections are in {folder}; to view them: d2lite report {folder}")
