"""A training program: from the command line to a trained or evaluated model."""

import logging
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import CfgNode
from d2lite.engine import hooks
from d2lite.engine.checks import check_evaluation_settings, check_training_settings
from d2lite.engine.classes import check_class_counts
from d2lite.engine.defaults import DefaultTrainer
from d2lite.engine.from_checkpoint import about_weights, weights_to_load
from d2lite.engine.launch import launch
from d2lite.engine.setup import config_from_args, default_argument_parser, default_setup
from d2lite.engine.train_loop import HookBase
from d2lite.evaluation import verify_results
from d2lite.modeling import GeneralizedRCNNWithTTA
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors

logger = logging.getLogger(__name__)


class TrainerWithTTA(DefaultTrainer):
    """DefaultTrainer with an additional evaluation with test-time augmentation."""

    def build_hooks(self) -> list[HookBase | None]:
        """Add an evaluation with augmentation after training, if TEST.AUG.ENABLED is set."""
        built = super().build_hooks()
        if self.cfg.TEST.AUG.ENABLED:
            with_tta = hooks.EvalHook(0, lambda: self.test_with_TTA(self.cfg, self.model))
            # Before the writers, which only the main process has.
            writers = [i for i, h in enumerate(built) if isinstance(h, hooks.PeriodicWriter)]
            built.insert(writers[0] if writers else len(built), with_tta)
        return built

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> Mapping:
        """Evaluate on several sizes and flips of each image; metrics get the suffix _TTA."""
        logger.info("Evaluating with test-time augmentation")
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model))
        return OrderedDict((f"{task}_TTA", metrics) for task, metrics in results.items())


def run_program(main: Callable[[Namespace], Any], parser: ArgumentParser | None = None) -> None:
    """Parse the command line and call `main(args)` in each requested process.

    Args:
        main: a top-level function, so that spawned processes can import it.
        parser: has at least the arguments of `default_argument_parser`, the default.
    """
    launch_program(main, (parser or default_argument_parser()).parse_args())


def launch_program(main: Callable[[Namespace], Any], args: Namespace) -> None:
    """Call `main(args)` in each process requested by the arguments of `add_run_arguments`."""
    with report_user_errors():
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )


def train_or_evaluate(args: Namespace, trainer: type[DefaultTrainer]) -> Mapping | None:
    """Train or evaluate, in each process of a training program.

    With `--eval-only`, MODEL.WEIGHTS (or with `--resume` the last checkpoint of OUTPUT_DIR) is
    evaluated by `trainer.test`, and also by `trainer.test_with_TTA` if TEST.AUG.ENABLED is set.
    Otherwise the model of the config is trained. User errors end the program with one line.

    Args:
        args: of `default_argument_parser`.
        trainer: builds model, loaders and evaluators.

    Returns:
        The results of the evaluation.
    """
    with report_user_errors():
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
        if not args.eval_only:
            run = trainer(cfg)
            run.resume_or_load(resume=args.resume)
            return run.train()
        model = trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        if hasattr(model, "built_from"):
            # The classes come from the checkpoint, whatever DATASETS.TRAIN is now.
            about = about_weights(weights_to_load(cfg, args.resume))
            model.built_from.metadata = about.get("metadata") or None
        results = trainer.test(cfg, model)
        if cfg.TEST.AUG.ENABLED and hasattr(trainer, "test_with_TTA"):
            results.update(trainer.test_with_TTA(cfg, model))
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
