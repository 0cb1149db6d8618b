#!/usr/bin/env python3
"""Train or evaluate DeepLab.

    python projects/DeepLab/train_net.py --config-file projects/DeepLab/configs/FILE.yaml

The options are those of `tools/train_net.py`.
"""

from argparse import Namespace
from collections.abc import Mapping

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.config import CfgNode
from d2lite.engine import DefaultTrainer, run_program, train_or_evaluate
from d2lite.projects.deeplab import build_lr_scheduler


class Trainer(DefaultTrainer):
    """The standard trainer with DeepLab's learning rate schedule."""

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Build the schedule, including WarmupPolyLR."""
        return build_lr_scheduler(cfg, optimizer)


def main(args: Namespace) -> Mapping | None:
    """Run one process of the program."""
    return train_or_evaluate(args, Trainer)


if __name__ == "__main__":
    run_program(main)
