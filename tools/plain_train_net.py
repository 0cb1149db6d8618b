#!/usr/bin/env python3
"""The work of `train_net.py` as one plain loop, easy to read and to change.

    python tools/plain_train_net.py --config-file configs/quick_start.yaml

It trains, evaluates, saves and resumes with the same configs. It leaves out what the trainer's
hooks add: mixed precision, exact BatchNorm statistics, profiles, the best checkpoint.
"""

import logging
import os
import time
from argparse import Namespace

import torch

from d2lite.checkpoint import (
    DetectionCheckpointer,
    PeriodicCheckpointer,
    require_loaded,
)
from d2lite.config import CfgNode
from d2lite.data import build_detection_test_loader, build_detection_train_loader
from d2lite.engine import (
    BadSteps,
    about_weights,
    check_class_counts,
    check_evaluation_settings,
    check_evaluators,
    check_keypoints,
    check_test_classes,
    check_training_settings,
    config_from_args,
    create_ddp_model,
    default_setup,
    default_writers,
    run_program,
    trained_classes,
    weights_to_load,
)
from d2lite.evaluation import (
    evaluator_for,
    inference_on_dataset,
    match_classes,
    print_csv_format,
)
from d2lite.evaluation.testing import flatten_results_dict
from d2lite.modeling import build_model
from d2lite.solver import build_lr_scheduler, build_optimizer
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors
from d2lite.utils.events import EventStorage
from d2lite.utils.logger import FILE_ONLY
from d2lite.utils.periods import is_due, is_last

logger = logging.getLogger("d2lite.plain_train_net")


def evaluate(cfg: CfgNode, model: torch.nn.Module) -> dict:
    """Return the metrics of every dataset in DATASETS.TEST."""
    require_loaded(model)
    results = {}
    for name in cfg.DATASETS.TEST:
        loader = build_detection_test_loader(cfg, name)
        evaluator = match_classes(evaluator_for(name, cfg), trained_classes(model, cfg))
        results[name] = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            logger.info("Results on %s:", name)
            print_csv_format(results[name])
    return results


def train(cfg: CfgNode, model: torch.nn.Module, resume: bool) -> None:
    """Run SOLVER.MAX_ITER steps."""
    model.train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    data_loader = build_detection_train_loader(cfg)
    # Built now, so that errors in the test sets appear before training and not hours later.
    check_keypoints(cfg)
    check_evaluators(cfg)
    check_test_classes(cfg)

    checkpointer = DetectionCheckpointer(
        model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler, data_loader=data_loader
    )
    checkpoint = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    start_iter = checkpoint.get("iteration", -1) + 1 if resume else 0
    max_iter = cfg.SOLVER.MAX_ITER
    periodic_checkpointer = PeriodicCheckpointer(
        checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_iter=max_iter
    )
    writers = default_writers(cfg.OUTPUT_DIR, max_iter) if comm.is_main_process() else []
    bad_steps = BadSteps()
    bad_steps.set_up_from(cfg)

    with EventStorage(start_iter) as storage:
        batches = iter(data_loader)
        for iteration in range(start_iter, max_iter):
            storage.iter = iteration
            start = time.perf_counter()
            batch = next(batches)
            storage.put_scalar("data_time", time.perf_counter() - start)

            bad_steps.begin(model, batch)
            try:
                loss_dict = model(batch)
                losses = sum(loss_dict.values())
                if not torch.isfinite(losses):
                    raise FloatingPointError(f"the losses are {loss_dict}")
            except FloatingPointError as error:
                bad_steps.handle(error, iteration, optimizer)  # raises an error or skips the step
            else:
                bad_steps.end()
                optimizer.zero_grad()
                losses.backward()
                optimizer.step()
                mean_losses = {k: v.item() for k, v in comm.reduce_dict(loss_dict).items()}
                storage.put_scalars(total_loss=sum(mean_losses.values()), **mean_losses)
            storage.put_scalar("lr", optimizer.param_groups[0]["lr"], smoothing_hint=False)
            scheduler.step()

            if is_due(iteration, cfg.TEST.EVAL_PERIOD) and not is_last(iteration, max_iter):
                results = flatten_results_dict(evaluate(cfg, model))
                storage.put_scalars(**results, smoothing_hint=False)
                storage.evaluated_iter = iteration
                comm.synchronize()
            storage.put_scalar("time", time.perf_counter() - start)
            is_new = storage.evaluated_iter == iteration or is_last(iteration, max_iter)
            if is_due(iteration, 20) or is_new:
                for writer in writers:
                    writer.write()
            periodic_checkpointer.step(iteration)
        for writer in writers:
            writer.close()


def setup(args: Namespace) -> CfgNode:
    """Return the config, checked against the data, after setting up logging and seeds."""
    cfg = config_from_args(args)
    if args.eval_only:
        check_evaluation_settings(cfg, args.resume)
        about = about_weights(weights_to_load(cfg, args.resume))
        check_class_counts(cfg, about=about)
    else:
        check_training_settings(cfg)
        if cfg.SOLVER.ACCUMULATE_STEPS > 1:
            raise ValueError(
                f"SOLVER.ACCUMULATE_STEPS is {cfg.SOLVER.ACCUMULATE_STEPS}, but this loop does not "
                "divide its batches; train with tools/train_net.py"
            )
        check_class_counts(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args: Namespace) -> dict:
    """Run one process of the program."""
    with report_user_errors():
        cfg = setup(args)
        model = build_model(cfg)
        logger.info("Model:\n%s", model, extra=FILE_ONLY)
        if args.eval_only:
            checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
            checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
            # The classes come from the checkpoint, whatever DATASETS.TRAIN is now.
            about = about_weights(weights_to_load(cfg, args.resume))
            model.built_from.metadata = about.get("metadata") or None
            return evaluate(cfg, model)
        model = create_ddp_model(model)
        train(cfg, model, resume=args.resume)
        logger.info("The final weights are %s", os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
        return evaluate(cfg, model)


if __name__ == "__main__":
    run_program(main)
