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

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import CfgNode
from d2lite.engine import (
    DefaultTrainer,
    HookBase,
    about_weights,
    check_class_counts,
    check_evaluation_settings,
    check_training_settings,
    config_from_args,
    default_argument_parser,
    default_setup,
    hooks,
    launch,
    weights_to_load,
)
from d2lite.evaluation import verify_results
from d2lite.modeling import GeneralizedRCNNWithTTA
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors

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


def setup(args: Namespace) -> CfgNode:
    """The settings, checked against the data, and everything around them prepared."""
    cfg = config_from_args(args)
    if args.eval_only:
        check_evaluation_settings(cfg, args.resume)
        about = about_weights(weights_to_load(cfg, args.resume))
        check_class_counts(cfg, about=about)
    else:
        check_training_settings(cfg)
        # The trainer compares all counts with the data itself.
        check_class_counts(cfg, only_open=True)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def evaluate(cfg: CfgNode, resume: bool) -> Mapping:
    """Evaluate MODEL.WEIGHTS, or with `resume` the last checkpoint of OUTPUT_DIR."""
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
        cfg.MODEL.WEIGHTS, resume=resume
    )
    results = Trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(Trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def main(args: Namespace) -> Mapping | None:
    """What each process does."""
    with report_user_errors():
        cfg = setup(args)
        if args.eval_only:
            return evaluate(cfg, args.resume)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    with report_user_errors():
        launch(
            main,
            arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
