#!/usr/bin/env python3
"""Train or evaluate Panoptic-DeepLab.

    python projects/Panoptic-DeepLab/train_net.py \\
        --config-file projects/Panoptic-DeepLab/configs/FILE.yaml

The options are those of `tools/train_net.py`.
"""

import os
from argparse import Namespace
from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.config import CfgNode
from d2lite.data import MetadataCatalog
from d2lite.engine import DefaultTrainer, run_program, train_or_evaluate
from d2lite.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
)
from d2lite.projects.deeplab import build_lr_scheduler
from d2lite.solver import get_default_optimizer_params
from d2lite.solver.build import maybe_add_gradient_clipping

# The metadata of a panoptic dataset in standard form lists stuff among the thing classes, so
# instances are evaluated on the dataset of the same images that has only things.
INSTANCES_OF = {
    "coco_2017_val_panoptic": "coco_2017_val",
    "coco_2017_val_100_panoptic": "coco_2017_val_100",
    "shapes_panoptic_standard_val": "shapes_val",
}


class Trainer(DefaultTrainer):
    """The standard trainer with Panoptic-DeepLab's optimizer, schedule and evaluation."""

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Build the schedule, including WarmupPolyLR."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """Build the optimizer named by SOLVER.OPTIMIZER.

        Raises:
            ValueError: it is neither "SGD" nor "ADAM".
        """
        solver = cfg.SOLVER
        params = get_default_optimizer_params(
            model, weight_decay=solver.WEIGHT_DECAY, weight_decay_norm=solver.WEIGHT_DECAY_NORM
        )
        if solver.OPTIMIZER == "SGD":
            optimizer = torch.optim.SGD(
                params, solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV
            )
        elif solver.OPTIMIZER == "ADAM":
            optimizer = torch.optim.Adam(params, solver.BASE_LR)
        else:
            raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}; use 'ADAM' or 'SGD'")
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build the evaluators of panoptic quality, instances, and (on Cityscapes) classes.

        Raises:
            ValueError: the dataset is not panoptic.
        """
        if cfg.MODEL.PANOPTIC_DEEPLAB.BENCHMARK_NETWORK_SPEED:
            return DatasetEvaluators([])  # there are no predictions
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
        if kind not in ("cityscapes_panoptic_seg", "coco_panoptic_seg"):
            raise ValueError(
                f"dataset {dataset_name!r}: evaluator_type in its metadata is {kind!r}; "
                "Panoptic-DeepLab is evaluated on panoptic datasets, 'coco_panoptic_seg' or "
                "'cityscapes_panoptic_seg'"
            )
        evaluators: list[DatasetEvaluator] = [COCOPanopticEvaluator(dataset_name, folder)]
        if kind == "cityscapes_panoptic_seg":
            evaluators.append(CityscapesSemSegEvaluator(dataset_name))
            evaluators.append(CityscapesInstanceEvaluator(dataset_name))
        elif dataset_name in INSTANCES_OF and cfg.MODEL.PANOPTIC_DEEPLAB.PREDICT_INSTANCES:
            evaluators.append(COCOEvaluator(INSTANCES_OF[dataset_name], output_dir=folder))
        return DatasetEvaluators(evaluators)


def main(args: Namespace) -> Mapping | None:
    """Run one process of the program."""
    return train_or_evaluate(args, Trainer)


if __name__ == "__main__":
    run_program(main)
