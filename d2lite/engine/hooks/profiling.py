"""Hooks that profile steps and report GPU memory."""

import logging
import os
from collections.abc import Callable

import torch

from d2lite.engine.hooks.due import is_due_or_last
from d2lite.engine.train_loop import HookBase
from d2lite.utils import comm
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)


class TorchProfiler(HookBase):
    """Hook that profiles iterations chosen by a predicate, for a trace viewer or TensorBoard."""

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
            enable_predicate: called with the trainer before each step; if True, the step is
                profiled.
            output_dir: folder for `profiler_iterN-trace.json` or, for TensorBoard, a `log` folder.
            activities: see torch.profiler.profile; None means all that are available.
            save_tensorboard: write in the format of TensorBoard's profiler plugin.
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


class TorchMemoryStats(HookBase):
    """Hook that logs CUDA memory in the first iterations: reserved, allocated, and their peaks."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        """
        Args:
            period: iterations between reports.
            max_runs: number of reports.
        """
        self._period = period
        self._runs_left = max_runs

    def after_step(self) -> None:
        if self._runs_left <= 0 or not torch.cuda.is_available():
            return
        if is_due_or_last(self.trainer, self._period):
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
