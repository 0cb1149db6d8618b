#!/usr/bin/env python3
"""The stock training program, with SSD's own augmentations.

    python projects/SSD/train_net.py --config-file projects/SSD/configs/shapes_ssdlite.yaml

takes the arguments of `tools/train_net.py`. That program trains SSD too, but only mirrors images:
a config cannot name another mapper.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import CfgNode
from d2lite.data import build_detection_train_loader
from d2lite.engine import (
    DefaultTrainer,
    check_class_counts,
    check_training_settings,
    config_from_args,
    default_argument_parser,
    default_setup,
    launch,
)
from d2lite.projects.ssd import SSDDatasetMapper
from d2lite.utils.cli import report_user_errors


class Trainer(DefaultTrainer):
    """The standard trainer, fed by SSDDatasetMapper."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Augmented batches, without end."""
        return build_detection_train_loader(cfg, mapper=SSDDatasetMapper(cfg))


def main(args: Namespace) -> Mapping | None:
    """What each process does."""
    with report_user_errors():
        cfg = config_from_args(args)
        if not args.eval_only:
            check_training_settings(cfg)
        check_class_counts(cfg)
        cfg.freeze()
        default_setup(cfg, args)
        if args.eval_only:
            model = Trainer.build_model(cfg)
            checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
            checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
            return Trainer.test(cfg, model)
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
