#!/usr/bin/env python3
"""Count a model's parameters, operations and activations, or print its structure.

    python tools/analyze_model.py --tasks parameter flop --config-file configs/quick_start.yaml
    python tools/analyze_model.py --tasks flop --num-inputs 20 --config-file FILE \\
        MODEL.WEIGHTS model_final.pth

Without --num-inputs it runs on one random image of the config's test size. The counts depend on
the image size and the number of proposals, so a trained model has other counts on real images.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import CfgNode, LazyConfig, instantiate
from d2lite.data import build_detection_test_loader
from d2lite.engine import check_class_counts, config_from_args
from d2lite.modeling import build_model
from d2lite.utils.analysis import (
    FlopCountAnalysis,
    activation_count_operators,
    parameter_count_table,
)
from d2lite.utils.cli import report_user_errors
from d2lite.utils.logger import setup_logger

TASKS = ("parameter", "flop", "activation", "structure")
RANDOM_SIZE = (800, 1067)  # (H, W) if the config has none


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"of {', '.join(TASKS)}",
                        default=["parameter", "flop"])  # fmt: skip
    parser.add_argument("--config-file", default="", metavar="FILE", help=".yaml, or lazy .py")
    parser.add_argument(
        "-n", "--num-inputs", type=int, default=0, help="test images; 0 for one random image"
    )
    parser.add_argument("--max-depth", type=int, default=3, help="depth of modules in the tables")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config changes: KEY VALUE ...")
    args = parser.parse_args(argv)
    # If no other option follows --tasks, it has consumed the config changes.
    tasks = list(itertools.takewhile(lambda word: word in TASKS, args.tasks))
    rest = args.tasks[len(tasks) :]
    if not tasks or (rest and "." not in rest[0]):
        parser.error(f"--tasks: {rest[0]!r} is not one of {', '.join(TASKS)}")
    args.tasks, args.opts = tasks, rest + args.opts
    return args


def setup(args: argparse.Namespace) -> Any:
    """Return the config, yaml or lazy."""
    if args.config_file.endswith(".py"):
        return LazyConfig.apply_overrides(LazyConfig.load(args.config_file), args.opts)
    cfg = config_from_args(args)
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.freeze()
    return cfg


def make_model(cfg: Any, load: bool) -> nn.Module:
    """Return the model in eval mode; with `load`, with its weights."""
    if isinstance(cfg, CfgNode):
        check_class_counts(cfg, only_open=True)
        model, weights = build_model(cfg), cfg.MODEL.WEIGHTS
    else:
        model, weights = instantiate(cfg.model), cfg.train.init_checkpoint
        model.to(cfg.train.device)
    if load:
        DetectionCheckpointer(model).load(weights)
    return model.eval()


def inputs_of(cfg: Any, num_inputs: int) -> Iterator[list[dict]]:
    """Yield batches of one image: the first ones of the test set, or a random one."""
    if num_inputs == 0:
        yield [random_input(cfg)]
        return
    if isinstance(cfg, CfgNode):
        if not cfg.DATASETS.TEST:
            raise ValueError("--num-inputs uses images of DATASETS.TEST, which is empty")
        loader = build_detection_test_loader(cfg, cfg.DATASETS.TEST[0])
    else:
        loader = instantiate(cfg.dataloader.test)
    batches = (batch[:1] for batch in loader)
    yield from itertools.islice(batches, num_inputs)


def random_input(cfg: Any) -> dict:
    """Return noise in the size of a test image with aspect ratio 3:4."""
    height, width = RANDOM_SIZE
    if isinstance(cfg, CfgNode) and cfg.INPUT.MIN_SIZE_TEST > 0:
        longest = cfg.INPUT.MAX_SIZE_TEST
        height = min(cfg.INPUT.MIN_SIZE_TEST, longest * 3 // 4)
        width = min(round(height * 4 / 3), longest)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "height": height, "width": width}


def print_flops(cfg: Any, model: nn.Module, args: argparse.Namespace) -> None:
    """Print a table for the first image, and the mean and standard deviation over all images."""
    # Imported here, after d2lite, which silences a warning of fvcore's import.
    from fvcore.nn import flop_count_table

    totals = []
    for batch in inputs_of(cfg, args.num_inputs):
        with torch.no_grad():
            analysis = FlopCountAnalysis(model, batch).uncalled_modules_warnings(False)
            totals.append(analysis.total() / 1e9)
            if len(totals) == 1:
                height, width = batch[0]["image"].shape[-2:]
                print(f"Operations on an image of {height} x {width} (multiply-adds):")
                print(flop_count_table(analysis, args.max_depth, show_param_shapes=False))
    print_mean("GFLOPs", totals)


def print_activations(cfg: Any, model: nn.Module, args: argparse.Namespace) -> None:
    """Print the number of output values of convolutions and matrix products."""
    counts = [activation_count_operators(model, batch) for batch in inputs_of(cfg, args.num_inputs)]
    for name in counts[0] if counts else ():
        print_mean(f"Million activations of {name}", [c.get(name, 0.0) for c in counts])
    print_mean("Million activations", [sum(c.values()) for c in counts])


def print_mean(name: str, values: Sequence[float]) -> None:
    """Print the mean and the standard deviation over images."""
    numbers = torch.tensor(values, dtype=torch.float64)
    spread = f" +- {numbers.std():.2f}" if len(numbers) > 1 else ""
    print(f"{name} on {len(numbers)} image(s): {numbers.mean():.2f}{spread}")


def print_parameters(cfg: Any, model: nn.Module, args: argparse.Namespace) -> None:
    """Print the parameters by module."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(parameter_count_table(model, max_depth=args.max_depth))
    print(f"{total / 1e6:.2f} million parameters, {trained / 1e6:.2f} million of them trainable")


def print_structure(cfg: Any, model: nn.Module, args: argparse.Namespace) -> None:
    """Print the modules in PyTorch's format."""
    print(model)


PRINTERS = {
    "parameter": print_parameters,
    "flop": print_flops,
    "activation": print_activations,
    "structure": print_structure,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tasks in the given order."""
    args = parse_args(argv)
    setup_logger()
    with report_user_errors():
        cfg = setup(args)
        torch.manual_seed(0)  # for the random image, and for weights that are not loaded
        model = make_model(cfg, load=args.num_inputs > 0)
        for task in args.tasks:
            PRINTERS[task](cfg, model, args)


if __name__ == "__main__":
    main()
