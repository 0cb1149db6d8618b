"""A search for the learning rate: a short training whose rate grows exponentially (Smith,
Cyclical Learning Rates for Training Neural Networks, 2017, sec. 3.3)."""

import argparse
import copy
import json
import logging
import os
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from d2lite.engine.checks import check_training_settings
from d2lite.engine.classes import check_class_counts
from d2lite.engine.defaults import DefaultTrainer
from d2lite.engine.setup import config_from_args
from d2lite.utils import comm
from d2lite.utils.events import EventStorage
from d2lite.utils.writing import atomic_write

logger = logging.getLogger(__name__)

# The sweep ends when the smoothed loss exceeds the lowest one by this factor.
_DIVERGED = 4.0
# The first averages are ignored: over few batches, they may be low by chance.
_LEAST_POINTS = 10


class LRSweep(NamedTuple):
    """The losses of a sweep, one for each iteration."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float  # a tenth of the rate where the smoothed loss is lowest


def find_lr(
    trainer: DefaultTrainer,
    *,
    min_lr: float = 1e-6,
    max_lr: float = 1.0,
    num_iter: int = 100,
    smoothing: float = 0.9,
) -> LRSweep:
    """Train with rates from `min_lr` to `max_lr`, and suggest one for SOLVER.BASE_LR.

    Afterward, the trainer's state is restored: weights, optimizer, position in the data and the
    rest. Parameter groups keep the ratios of their rates.

    Args:
        trainer: runs in a single process.
        num_iter: iterations; the sweep ends earlier if the loss diverges.
        smoothing: weight of the past in the average of the loss, in [0, 1).
    Returns:
        The sweep. The suggested rate is a tenth of the one at which the smoothed loss is lowest,
        where it still falls and is far from diverging.
    Raises:
        ValueError: there are several processes, or the loss diverges at once or does not fall.
    """
    if comm.get_world_size() > 1:
        raise ValueError("the learning rate search needs a single process: leave out --num-gpus")
    kept = copy.deepcopy((trainer.model.state_dict(), trainer.state_dict()))
    rates, losses, smoothed = [], [], []
    average = 0.0
    try:
        with EventStorage() as storage:
            for trainer.iter in range(num_iter):
                storage.iter = trainer.iter
                rates.append(min_lr * (max_lr / min_lr) ** (trainer.iter / max(num_iter - 1, 1)))
                for group in trainer.optimizer.param_groups:
                    initial = group.get("initial_lr", group["lr"])
                    group["lr"] = rates[-1] * initial / trainer.cfg.SOLVER.BASE_LR
                try:
                    trainer.run_step()
                except FloatingPointError:
                    rates.pop()
                    break
                losses.append(storage.latest()["total_loss"][0])
                average = smoothing * average + (1 - smoothing) * losses[-1]
                smoothed.append(average / (1 - smoothing ** len(losses)))
                if len(losses) > _LEAST_POINTS and smoothed[-1] > _DIVERGED * min(smoothed):
                    break
    finally:
        weights, state = kept
        trainer.model.load_state_dict(weights)
        trainer.load_state_dict(state)
    return LRSweep(rates, losses, smoothed, _suggest(rates, smoothed))


def _suggest(rates: list[float], smoothed: list[float]) -> float:
    first = _LEAST_POINTS
    lowest = first + int(np.argmin(smoothed[first:])) if len(smoothed) > first else 0
    if lowest <= first:
        raise ValueError(
            f"the loss does not fall in {len(smoothed)} iterations with growing learning rates. "
            "Check the data and the weights to start from, or search over more iterations"
        )
    return rates[lowest] / 10


def draw_sweep(sweep: LRSweep, path: str) -> None:
    """Draw a sweep: the losses over the rates, and the suggested rate; the file extension sets the
    format."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(sweep.rates, sweep.losses, color="0.8", label="loss")
    axes.plot(sweep.rates, sweep.smoothed, color="C0", label="smoothed")
    axes.axvline(sweep.suggested, color="C1", label=f"suggested: {sweep.suggested:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="total loss")
    low, high = min(sweep.smoothed), max(sweep.smoothed[: _LEAST_POINTS + 1])
    axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axes.legend()
    figure.savefig(path, dpi=120)


def find_lr_program(args: argparse.Namespace) -> LRSweep:
    """Search for the learning rate of the training that the arguments of a program describe.

    The sweep is drawn into OUTPUT_DIR/lr_finder.png, and its values are saved in lr_finder.json
    there. The files of a run in that folder are not changed.
    """
    cfg = config_from_args(args)
    check_training_settings(cfg)
    check_class_counts(cfg, only_open=True)
    if cfg.SOLVER.BASE_LR <= 0:
        raise ValueError(f"SOLVER.BASE_LR is {cfg.SOLVER.BASE_LR}; a search needs one above 0")
    cfg.freeze()
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    sweep = find_lr(trainer)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    picture = os.path.join(cfg.OUTPUT_DIR, "lr_finder.png")
    draw_sweep(sweep, picture)
    with atomic_write(os.path.join(cfg.OUTPUT_DIR, "lr_finder.json"), "w") as file:
        json.dump(sweep._asdict(), file)
    logger.info(
        "The loss is lowest at ten times the suggested learning rate of %.2g; see %s",
        *(sweep.suggested, picture),
    )
    return sweep
