#!/usr/bin/env python3
"""Replay a training step whose loss or gradients were not finite.

    python tools/replay_step.py output/bad_steps/iter_0000123.pth
    python tools/replay_step.py output/bad_steps/iter_0000123.pth --detect-anomaly --device cpu

Training writes such files (docs/bad_steps.md). They contain the model and optimizer before the
step, the batch, the random state and the config, from which the model is built here. It prints
losses and gradients, and says whether the fault occurs again. The exit status is 0 if it does, 3 if
not.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from d2lite.config import instantiate
from d2lite.config.trusted import require_trusted_targets
from d2lite.engine import config_from_checkpoint
from d2lite.engine.replay import Replay, read_step, replay_step
from d2lite.modeling import build_model
from d2lite.utils.cli import report_user_errors
from d2lite.utils.logger import setup_logger

NOT_REPRODUCED = 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="iter_*.pth in OUTPUT_DIR/bad_steps")
    parser.add_argument("--device", help="such as cpu; by default, the best available one")
    parser.add_argument("--rank", type=int, help="only replay the batch of this process")
    parser.add_argument(
        "--detect-anomaly",
        action="store_true",
        help="name the operation in which the first gradient becomes nan (slow)",
    )
    parser.add_argument("--num", type=int, default=20, help="gradients to print; 0 for all")
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="build the model of a lazy config even if it calls other functions than model parts",
    )
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        help="at the end: changes of a yaml config, KEY VALUE ...",
    )
    return parser.parse_args(argv)


def build(args: argparse.Namespace, step: Mapping[str, Any]) -> nn.Module:
    """Build the model of a step, with random weights.

    Raises:
        ValueError: the file has no config.
    """
    kind = step.get("about", {}).get("config_kind")
    if kind == "yacs":
        opts = ["MODEL.DEVICE", args.device] if args.device else []
        return build_model(config_from_checkpoint(args.file, [*args.opts, *opts]))
    if kind == "lazy":
        config = step["about"]["config"]
        if not args.trust_config:
            require_trusted_targets(config["model"], args.file, "model")
        model = instantiate(OmegaConf.create(config).model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(args.device or device)
    raise ValueError(
        f"{args.file} has no config: its model was not built by build_model; build it in Python "
        "and call d2lite.engine.replay.replay_step(model, read_step(FILE), rank)"
    )


def describe(replay: Replay, num: int) -> str:
    """Return losses and gradients as text."""
    lines = [f"  {name:40} {value:.6g}" for name, value in replay.losses.items()]
    if replay.error is not None:
        lines.append(f"  {type(replay.error).__name__}: {replay.error}")
    shown = replay.gradients[: num or None]
    broken = sum(not math.isfinite(value) for _, value in replay.gradients)
    lines.append(
        f"Largest gradient entries of {len(shown)} of {len(replay.gradients)} parameters "
        f"({broken} not finite):"
    )
    lines += [f"  {name:60} {value:.6g}" for name, value in shown]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, print, and return the exit status."""
    args = parse_args(argv)
    setup_logger()
    with report_user_errors():
        step = read_step(args.file)
        ranks = sorted(step["ranks"]) if args.rank is None else [args.rank]
        if not set(ranks) <= set(step["ranks"]):
            raise ValueError(f"--rank {args.rank}: {args.file} has ranks {[*step['ranks']]}")
        model = build(args, step)
        print(f"Iteration {step['iteration']}. Message of the training:\n  {step['message']}")
        is_bad = False
        for rank in ranks:
            if lost := step["ranks"][rank]["lost"]:
                print(f"The batch of rank {rank} lacks objects of: {', '.join(sorted(set(lost)))}")
            replay = replay_step(model, step, rank, detect_anomaly=args.detect_anomaly)
            print(f"Losses of rank {rank}:\n{describe(replay, args.num)}")
            is_bad |= replay.is_bad
        device = next(model.parameters()).device
        print(f"The fault {'occurs again' if is_bad else 'does NOT occur again'} on {device}.")
        return 0 if is_bad else NOT_REPRODUCED


if __name__ == "__main__":
    sys.exit(main())
