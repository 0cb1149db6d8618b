"""The hooks of a training run: everything but the step itself."""

import contextlib
import json
import logging
import math
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler as TorchLRScheduler

from d2lite.checkpoint import Checkpointer
from d2lite.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from d2lite.checkpoint.resuming import log_kept_schedule
from d2lite.checkpoint.writing import atomic_write
from d2lite.evaluation.testing import flatten_results_dict
from d2lite.solver import LRMultiplier
from d2lite.utils import comm
from d2lite.utils.events import EventStorage, EventWriter
from d2lite.utils.file_io import PathManager, read_text
from d2lite.utils.registry import did_you_mean

from .timing import IterationTimer, TorchProfiler
from .train_loop import HookBase, TrainerBase, is_complete

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "SyncBuffers",
    "TorchMemoryStats",
    "TorchProfiler",
    "is_due",
]

logger = logging.getLogger(__name__)


def is_due(iteration: int, period: int) -> bool:
    """Whether something with this period happens after `iteration` (from 0); 0 means never."""
    return period > 0 and (iteration + 1) % period == 0


class CallbackHook(HookBase):
    """A hook made of functions; each is called with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callable | None = None,
        after_train: Callable | None = None,
        before_step: Callable | None = None,
        after_step: Callable | None = None,
        after_backward: Callable | None = None,
    ) -> None:
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step
        self._after_backward = after_backward

    def before_train(self) -> None:
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        if self._after_train:
            self._after_train(self.trainer)
        # Functions may hold the trainer: a circle that would keep it alive.
        self._before_train = self._after_train = None
        self._before_step = self._after_step = self._after_backward = None

    def before_step(self) -> None:
        if self._before_step:
            self._before_step(self.trainer)

    def after_backward(self) -> None:
        if self._after_backward:
            self._after_backward(self.trainer)

    def after_step(self) -> None:
        if self._after_step:
            self._after_step(self.trainer)


@contextlib.contextmanager
def _at_last_iteration(trainer: TrainerBase) -> Iterator[bool]:
    """In `before_train` of a run that is resumed, go back to the iteration before the first one.

    The run may have ended between saving its checkpoint and what came after that in the same
    iteration. Yields whether there is such an iteration.
    """
    if trainer.start_iter == 0:
        yield False
        return
    trainer.iter = trainer.storage.iter = trainer.start_iter - 1
    try:
        yield True
    finally:
        trainer.iter = trainer.storage.iter = trainer.start_iter


class PeriodicWriter(HookBase):
    """Let the writers write every `period` iterations, and once more after training.

    It belongs at the end of the hooks, where the values of all others are in the storage.
    """

    def __init__(self, writers: Iterable[EventWriter], period: int = 20) -> None:
        self._writers = list(writers)
        for writer in self._writers:
            assert isinstance(writer, EventWriter), f"{writer!r} is not an EventWriter"
        self._period = period

    def before_train(self) -> None:
        # Writers leave out what they find written.
        with _at_last_iteration(self.trainer) as resumed:
            if resumed:
                self._write_if_due()

    def after_step(self) -> None:
        self._write_if_due()

    def _write_if_due(self) -> None:
        iteration, storage = self.trainer.iter, self.trainer.storage
        last = iteration == self.trainer.max_iter - 1
        # The next evaluation would replace what this one found.
        always = last or storage.evaluated_iter == iteration
        for writer in self._writers:
            if always or is_due(iteration, self._period) or writer.every_iteration:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            # Evaluation after training has put values since the last write. What a run that goes
            # on will write is in its checkpoint.
            if not getattr(self.trainer, "_left", False):
                writer.write()
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """Save a checkpoint every `period` iterations and at the end of training."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)

    def save_now(self) -> None:
        iteration = self.trainer.iter
        self.save(f"{self.file_prefix}_{iteration:07d}", iteration=iteration)
        self._delete_oldest(iteration)

    def after_train(self) -> None:
        # Which iteration was the last one of a stopped training is known only now.
        if self.trainer.stopped and is_complete(self.trainer):
            self.save(f"{self.file_prefix}_final", iteration=self.trainer.max_iter - 1)


class BestCheckpointer(HookBase):
    """Keep the weights with the best value of an evaluated metric.

    It belongs directly behind EvalHook. The record of the best value lies beside the weights as
    FILE_PREFIX.json, so that a resumed run goes on from it.
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
            eval_period: iterations between evaluations, as EvalHook has it.
            checkpointer: the one that saves.
            val_metric: name of the figure in the storage, such as "bbox/AP50".
            mode: "max" or "min": which of two values is better.
            file_prefix: name of the checkpoint, without ".pth".
            also_save: called with `file_prefix`, to write more beside it.
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

    @property
    def _record(self) -> str:
        return os.path.join(self._checkpointer.save_dir, f"{self._file_prefix}.json")

    def before_train(self) -> None:
        start_iter = self.trainer.start_iter
        if start_iter > 0 and not self._knows_best and PathManager.isfile(self._record):
            record = json.loads(read_text(self._record))
            # A record from after the checkpoint will be made again. The evaluation after a
            # training counts as one of the iteration that would have followed.
            if record["iteration"] <= start_iter:
                self.best_metric, self.best_iter = record["metric"], record["iteration"]
        with _at_last_iteration(self.trainer) as resumed:
            if resumed and self.trainer.storage.evaluated_iter == self.trainer.iter:
                self._best_checking()

    def resume_state(self) -> dict:
        return {"metric": self.best_metric, "iteration": self.best_iter}

    def load_resume_state(self, state: dict) -> None:
        """Take over the best evaluation until the checkpoint. The file may be of a later one, which
        will be made again."""
        self.best_metric, self.best_iter = state["metric"], state["iteration"]
        self._knows_best = True

    def after_step(self) -> None:
        # After the last iteration comes the evaluation of after_train.
        if (
            is_due(self.trainer.iter, self._period)
            and self.trainer.iter + 1 < self.trainer.max_iter
        ):
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
        if not self._update_best(metric, iteration):
            return
        extra = {"iteration": iteration, self._val_metric: metric}
        self._checkpointer.save(self._file_prefix, **extra)
        if self._also_save is not None:
            self._also_save(self._file_prefix)
        with atomic_write(self._record, "w") as file:
            json.dump({"metric": metric, "iteration": iteration, "name": self._val_metric}, file)
        logger.info(
            "%s.pth: best %s so far, %.4f in iteration %d",
            self._file_prefix,
            self._val_metric,
            metric,
            iteration,
        )

    def _update_best(self, val: float, iteration: int) -> bool:
        """Take a value as the best one, unless it is not finite; return whether it was taken."""
        if not math.isfinite(val):
            return False
        self.best_metric, self.best_iter = val, iteration
        return True


class LRScheduler(HookBase):
    """Step the learning rate schedule, and put the rate into the storage as "lr"."""

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        scheduler: TorchLRScheduler | ParamScheduler | None = None,
    ) -> None:
        """
        Args:
            optimizer: by default the trainer's.
            scheduler: by default the trainer's. A ParamScheduler is the factor on the initial
                rates, over the iterations of the training.
        """
        self._optimizer = optimizer
        self._scheduler = scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer,
                self.scheduler,
                self.trainer.max_iter,
                last_iter=self.trainer.iter - 1,
            )
        self._best_param_group_id = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """The parameter group whose rate stands for all: the commonest initial rate or, where
        every group has its own, the group with most parameters."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if len(optimizer.param_groups) > 1 and max(sizes) == 1:
            # One group a parameter: take the commonest rate.
            rates = [group["lr"] for group in optimizer.param_groups]
            return rates.index(Counter(rates).most_common(1)[0][0])
        return sizes.index(max(sizes))

    def after_step(self) -> None:
        lr = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", float(lr), smoothing_hint=False)
        try:
            self.scheduler.step()
        except (IndexError, RuntimeError):
            # Some schedules of fvcore have no value at the end, which no iteration uses.
            if self.trainer.iter + 1 < self.trainer.max_iter:
                raise

    @property
    def scheduler(self) -> TorchLRScheduler | ParamScheduler:
        """The schedule given to the hook, else the trainer's."""
        return self._scheduler or self.trainer.scheduler

    def state_dict(self) -> dict:
        has_state = isinstance(self.scheduler, TorchLRScheduler)
        return self.scheduler.state_dict() if has_state else {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue the schedule where it was. A ParamScheduler is a function of the iteration
        and needs no state."""
        if isinstance(self.scheduler, TorchLRScheduler):
            log_kept_schedule(state_dict, self.scheduler.state_dict())
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluate every so many iterations, and after training."""

    # Of the class, for subclasses with a constructor of their own.
    _latest_iter: int | None = None
    _is_resumed = False

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping], eval_after_train: bool = True
    ) -> None:
        """
        Args:
            eval_period: iterations between evaluations; 0 leaves only the one after training.
            eval_function: returns a (nested) dict of figures, which go into the storage as
                "task/figure". All ranks call it together.
            eval_after_train: also evaluate when the last iteration is done.
        """
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def before_train(self) -> None:
        """Evaluate what the run that is resumed did not come to evaluate after its checkpoint."""
        with _at_last_iteration(self.trainer) as resumed:
            if not (resumed and self._is_resumed):
                return
            if self._latest_iter == self.trainer.iter:
                self.trainer.storage.evaluated_iter = self.trainer.iter
            elif self._is_due():
                self._do_eval()

    def after_step(self) -> None:
        if self._is_due():
            self._do_eval()

    def _is_due(self) -> bool:
        # The last iteration is evaluated in after_train.
        last = self.trainer.iter + 1 >= self.trainer.max_iter
        return is_due(self.trainer.iter, self._period) and not last

    def resume_state(self) -> dict:
        return {"latest_iter": self._latest_iter}

    def load_resume_state(self, state: dict) -> None:
        """Take over which iteration was evaluated."""
        self._latest_iter = state["latest_iter"]
        self._is_resumed = True

    def after_train(self) -> None:
        # Not again where the training was stopped at an evaluation.
        again = self._latest_iter == self.trainer.max_iter - 1
        if self._eval_after_train and is_complete(self.trainer) and not again:
            self._do_eval()
        del self._func  # it often holds the trainer: a circle

    def _do_eval(self) -> None:
        results = self._func()
        self._latest_iter = self.trainer.storage.evaluated_iter = self.trainer.iter
        if results:
            assert isinstance(results, Mapping), f"evaluation must return a dict, not {results!r}"
            figures = flatten_results_dict(results)
            for name, value in figures.items():
                try:
                    figures[name] = float(value)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"the evaluation returned {value!r} for {name}; a nested dict of floats "
                        "is expected"
                    ) from None
            self.trainer.storage.put_scalars(**figures, smoothing_hint=False)
        # Ranks that had less to evaluate wait here, and not within the next step's time.
        comm.synchronize()


class PreciseBN(HookBase):
    """Replace the running statistics of BatchNorm by exact ones of recent weights.

    The model sees `num_iter` batches in training mode, without updates, and the statistics are
    averaged (Wu & Johnson, Rethinking "Batch" in BatchNorm, 2021). It belongs before EvalHook.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable, num_iter: int) -> None:
        """
        Args:
            period: iterations between updates; 0 updates only after the last one.
            model: updated where it has BatchNorm layers in training mode.
            data_loader: a training loader of its own. It yields the same batches again in every
                update, so that a resumed run sees what an uninterrupted one sees.
            num_iter: batches for each update.
        """
        self._period = period
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._model = model
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("PreciseBN is off: no BatchNorm layer of the model is in training mode")
        has_state = hasattr(data_loader, "state_dict")
        self._loader_start: dict | None = data_loader.state_dict() if has_state else None

    def after_step(self) -> None:
        last = self.trainer.iter + 1 == self.trainer.max_iter
        if is_due(self.trainer.iter, self._period) or last:
            self.update_stats()

    def state_dict(self) -> dict:
        return {} if self._loader_start is None else {"data_loader": self._loader_start}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over the stream of the run that is resumed, whose seed may have been random."""
        self._loader_start = state_dict["data_loader"]

    def update_stats(self) -> None:
        """Compute the statistics now."""
        if self._disabled:
            return
        if self._loader_start is not None:
            self._data_loader.load_state_dict(self._loader_start)
        logger.info("PreciseBN: averaging the statistics of %d batches", self._num_iter)
        # The model's figures of this pass belong to no training iteration.
        with EventStorage():
            update_bn_stats(self._model, self._batches(), self._num_iter)

    def _batches(self) -> Iterator:
        yield from iter(self._data_loader)


class SyncBuffers(HookBase):
    """Average the model's floating point buffers over the ranks before they are used.

    Each rank's BatchNorm follows its own images. Where a checkpoint or an evaluation is due, all
    ranks take the mean, so that what is saved is what every rank evaluates. It belongs before
    those hooks.
    """

    def __init__(self, model: nn.Module, periods: Iterable[int]) -> None:
        """periods: iterations between the events that look at the model."""
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._periods = list(periods)

    def after_step(self) -> None:
        last = self.trainer.iter + 1 == self.trainer.max_iter
        if last or any(is_due(self.trainer.iter, period) for period in self._periods):
            self.average()

    def before_stop(self) -> None:
        self.average()

    @torch.no_grad()
    def average(self) -> None:
        """Give all ranks the mean, in one exchange."""
        if comm.get_world_size() == 1 or not self._buffers:
            return
        flat = torch.cat([buffer.flatten().double() for buffer in self._buffers])
        dist.all_reduce(flat)
        flat /= comm.get_world_size()
        for buffer, mean in zip(
            self._buffers, flat.split([b.numel() for b in self._buffers]), strict=True
        ):
            buffer.copy_(mean.view_as(buffer))


class TorchMemoryStats(HookBase):
    """Log the CUDA memory of the first iterations: reserved, allocated, and their peaks."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        """
        Args:
            period: iterations between reports.
            max_runs: reports after which the hook falls silent.
        """
        self._period = period
        self._runs_left = max_runs

    def after_step(self) -> None:
        if self._runs_left <= 0 or not torch.cuda.is_available():
            return
        last = self.trainer.iter == self.trainer.max_iter - 1
        if is_due(self.trainer.iter, self._period) or last:
            logger.info(
                "CUDA memory in iteration %d, MB: reserved %d (peak %d), allocated %d (peak %d)",
                self.trainer.iter,
                torch.cuda.memory_reserved() >> 20,
                torch.cuda.max_memory_reserved() >> 20,
                torch.cuda.memory_allocated() >> 20,
                torch.cuda.max_memory_allocated() >> 20,
            )
            torch.cuda.reset_peak_memory_stats()
            self._runs_left -= 1
