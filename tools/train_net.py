#!/usr/bin/env python3
"""Train or evaluate a model from a yaml config.

    python tools/train_net.py --config-file configs/quick_start.yaml
    python tools/train_net.py --config-file configs/quick_start.yaml --resume
    python tools/train_net.py --eval-only MODEL.WEIGHTS output/quick_start/model_final.pth

Copy and change it if a config is not enough; `plain_train_net.py` does the same without the
trainer.
"""

from argparse import Namespace
from collections.abc import Mapping

from d2lite.engine import TrainerWithTTA as Trainer, run_program, train_or_evaluate


def main(args: Namespace) -> Mapping | None:
    """Run one process of the program."""
    return train_or_evaluate(args, Trainer)


if __name__ == "__main__":
    run_program(main)
