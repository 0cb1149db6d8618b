#!/usr/bin/env python3
"""Train or evaluate what a yaml config describes.

    python tools/train_net.py --config-file configs/quick_start.yaml
    python tools/train_net.py --config-file configs/quick_start.yaml --resume
    python tools/train_net.py --eval-only MODEL.WEIGHTS output/quick_start/model_final.pth

Copy it and change it where a config is not enough; `plain_train_net.py` is the same job
without the trainer.
"""

import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping

from d2lite.config import CfgNode
from d2lite.engine import DefaultTrainer, HookBase, hooks, run_program, train_or_evaluate
from d2lite.modeling import GeneralizedRCNNWithTTA

logger = logging.getLogger("d2lite.train_net")


class Trainer(DefaultTrainer):
    """The standard trainer, and evaluation with test-time augmentation."""

    def build_hooks(self) -> list[HookBase | None]:
        """After training, evaluate with augmentation too where TEST.AUG.ENABLED asks for it."""
        built = super().build_hooks()
        if self.cfg.TEST.AUG.ENABLED:
            with_tta = hooks.EvalHook(0, lambda: self.test_with_TTA(self.cfg, self.model))
            built.insert(-1, with_tta)  # before the writers
        return built

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model) -> Mapping:
        """Evaluate on several sizes and flips of each image; figures get the ending _TTA."""
        logger.info("Evaluating with test-time augmentation")
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model))
        return OrderedDict((f"{task}_TTA", figures) for task, figures in results.items())


def main(args: Namespace) -> Mapping | None:
    """What each process does."""
    return train_or_evaluate(args, Trainer)


if __name__ == "__main__":
    run_program(main)
