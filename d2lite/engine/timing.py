"""Hooks that measure the time of steps."""

import datetime
import logging
import os
import time
from collections.abc import Callable

import torch
from fvcore.common.timer import Timer

from d2lite.utils import comm
from d2lite.utils.file_io import PathManager

from .train_loop import HookBase

__all__ = ["IterationTimer", "TorchProfiler"]

logger = logging.getLogger(__name__)


class IterationTimer(HookBase):
    """Put the seconds of each step into the storage as "time", and sum up at the end.

    The time is that of the step and not of the hooks around it. The first steps, which allocate
    and tune, are left out.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        """warmup_iter: number of the first step that is measured, from 1."""
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._start()

    def _start(self) -> None:
        self._start_time = time.perf_counter()
        self._num_measured = 0
        self._seconds = 0.0

    def before_train(self) -> None:
        self._start()

    def before_step(self) -> None:
        self._step_timer.reset()

    def after_step(self) -> None:
        seconds = self._step_timer.seconds()
        if self.trainer.iter - self.trainer.start_iter + 1 < self._warmup_iter:
            self._start_time = time.perf_counter()
            return
        self.trainer.storage.put_scalars(time=seconds)
        self._num_measured += 1
        self._seconds += seconds

    def after_train(self) -> None:
        if self._num_measured == 0:
            return
        total = time.perf_counter() - self._start_time
        logger.info(
            "%d iterations took %s (%.4f s each); hooks around them took %s",
            self._num_measured,
            datetime.timedelta(seconds=int(self._seconds)),
            self._seconds / self._num_measured,
            datetime.timedelta(seconds=int(total - self._seconds)),
        )


class TorchProfiler(HookBase):
    """Profile the iterations that a predicate chooses, for the trace viewer or TensorBoard."""

    def __init__(
        self,
        enable_predicate: Callable[["TorchProfiler"], bool],
        output_dir: str,
        *,
        activities: list | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        """
        Args:
            enable_predicate: called with the trainer before each step; True profiles the step.
            output_dir: gets `profiler_iterN-trace.json` or, for TensorBoard, a `log` folder.
            activities: as of torch.profiler.profile; None means all that the machine has.
            save_tensorboard: write for TensorBoard's profile page.
        """
        self._enable_predicate = enable_predicate
        self._activities = activities
        self._output_dir = output_dir
        self._save_tensorboard = save_tensorboard
        self._profiler = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        on_trace_ready = None
        if self._save_tensorboard:
            on_trace_ready = torch.profiler.tensorboard_trace_handler(
                os.path.join(
                    self._output_dir, "log", f"profiler-tensorboard-iter{self.trainer.iter}"
                ),
                f"worker{comm.get_rank()}",
            )
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_trace_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )
        self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if not self._save_tensorboard:
            PathManager.mkdirs(self._output_dir)
            name = f"profiler_iter{self.trainer.iter}-trace.json"
            self._profiler.export_chrome_trace(os.path.join(self._output_dir, name))
        self._profiler = None
