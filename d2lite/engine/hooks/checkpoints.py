"""Hooks that save periodic checkpoints and the best one."""

import json
import logging
import math
import operator
import os
from collections.abc import Callable
from numbers import Real

from d2lite.checkpoint import Checkpointer, PeriodicCheckpointer as _PeriodicCheckpointer
from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.engine.hooks.due import at_last_iteration, is_due_before_last
from d2lite.engine.train_loop import HookBase, is_complete
from d2lite.utils.errors import file_errors
from d2lite.utils.file_io import PathManager
from d2lite.utils.json_files import read_json
from d2lite.utils.registry import did_you_mean
from d2lite.utils.writing import WriteError, atomic_write

logger = logging.getLogger(__name__)


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """Hook that saves a checkpoint every `period` iterations and at the end of training."""

    _lacks_final = False

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        try:
            self.step(self.trainer.iter)
        except WriteError as error:
            # Don't raise: the hooks after this one still have to run.
            logger.error("%s. It will be tried once more at the end of training", error)
            self._lacks_final = True

    def save_now(self) -> None:
        self.save_or_go_on(self.trainer.iter)

    def after_train(self) -> None:
        # If training was stopped early, the last iteration is known only now.
        if (self.trainer.stopped or self._lacks_final) and is_complete(self.trainer):
            self.save(f"{self.file_prefix}_final", iteration=self.trainer.max_iter - 1)


class BestCheckpointer(HookBase):
    """Hook that saves the weights with the best value of an evaluated metric.

    It must come directly after EvalHook. The best value is stored next to the weights in
    FILE_PREFIX.json, so that a resumed run continues from it.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
        also_save: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            eval_period: iterations between evaluations; the same value as for EvalHook.
            checkpointer: saves the checkpoint.
            val_metric: name of the metric in the storage, such as "bbox/AP50".
            mode: "max" if higher values are better, "min" if lower ones are.
            file_prefix: name of the checkpoint, without ".pth".
            also_save: called with `file_prefix`, to save more files with that prefix.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; use 'max' or 'min'")
        self._compare = operator.gt if mode == "max" else operator.lt
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._file_prefix = file_prefix
        self._also_save = also_save
        self.best_metric: float | None = None
        self.best_iter: int | None = None
        self._knows_best = False  # from the checkpoint
        self._recorded: tuple[float | None, int | None] = (None, None)

    @property
    def _record(self) -> str:
        return os.path.join(self._checkpointer.save_dir, f"{self._file_prefix}.json")

    def before_train(self) -> None:
        start_iter = self.trainer.start_iter
        if start_iter > 0 and not self._knows_best and PathManager.isfile(self._record):
            remedy = "Delete it to continue; the next evaluation then counts as the best one"
            with file_errors(CheckpointFileError, self._record, "is damaged", remedy=remedy):
                record = read_json(self._record)
                _require_evaluation(record)
            # A record that is newer than the checkpoint will be written again. The evaluation after
            # training counts as one at the iteration that would have followed.
            if record["iteration"] <= start_iter:
                self._take_over(record)
        with at_last_iteration(self.trainer) as resumed:
            # In other iterations, perhaps only the validation losses were evaluated.
            evaluated = self.trainer.storage.evaluated_iter == self.trainer.iter
            if resumed and evaluated and is_due_before_last(self.trainer, self._period):
                self._best_checking()

    def _take_over(self, state: dict) -> None:
        self.best_metric, self.best_iter = self._recorded = state["metric"], state["iteration"]

    def resume_state(self) -> dict:
        # The record that is on disk: a run resumed from model_best.pth itself continues with it.
        metric, iteration = self._recorded
        return {"metric": metric, "iteration": iteration}

    def load_resume_state(self, state: dict) -> None:
        """Load the best evaluation as of the checkpoint. The file may be from a later one, which
        will be repeated."""
        if state["iteration"] is not None or state["metric"] is not None:
            _require_evaluation(state)
        self._take_over(state)
        self._knows_best = True

    def after_step(self) -> None:
        if is_due_before_last(self.trainer, self._period):
            self._best_checking()

    def after_train(self) -> None:
        if is_complete(self.trainer):
            self._best_checking()

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            known = [name for name in self.trainer.storage.latest() if "/" in name]
            logger.warning(
                "No %s was evaluated, so there is no best checkpoint; see TEST.BEST_METRIC.%s",
                self._val_metric,
                did_you_mean(self._val_metric, known) or f" There are: {', '.join(sorted(known))}",
            )
            return
        metric, iteration = latest
        if self.best_metric is not None and not self._compare(metric, self.best_metric):
            return
        before = self.best_metric, self.best_iter
        if not self._update_best(metric, iteration):
            return
        extra = {"iteration": iteration, self._val_metric: metric}
        record = {"metric": metric, "iteration": iteration, "name": self._val_metric}
        is_saved = False
        try:
            self._checkpointer.save(self._file_prefix, **extra)
            is_saved = True
            if self._also_save is not None:
                self._also_save(self._file_prefix)
            with atomic_write(self._record, "w") as file:
                json.dump(record, file)
        except WriteError as error:
            if is_saved:
                self._recorded = metric, iteration
            else:
                self.best_metric, self.best_iter = before  # the best one that is on disk
            if is_complete(self.trainer):
                raise
            logger.error("%s. Training continues without this best checkpoint", error)
            return
        self._recorded = metric, iteration
        logger.info(
            "%s.pth: best %s so far, %.4f at iteration %d",
            self._file_prefix,
            self._val_metric,
            metric,
            iteration,
        )

    def _update_best(self, val: float, iteration: int) -> bool:
        """Record a value as the best one if it is finite; return whether it was recorded."""
        if not math.isfinite(val):
            return False
        self.best_metric, self.best_iter = val, iteration
        return True


def _require_evaluation(record: dict) -> None:
    """Raise a ValueError unless a record has the metric and the iteration of an evaluation."""
    metric, iteration = record["metric"], record["iteration"]
    if not (isinstance(metric, Real) and math.isfinite(metric) and type(iteration) is int):
        raise ValueError(f"it has metric {metric!r:.40} and iteration {iteration!r:.40}")
