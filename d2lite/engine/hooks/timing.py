"""The hook that measures the time of each step."""

import datetime
import logging
import time

from fvcore.common.timer import Timer

from d2lite.engine.train_loop import HookBase

logger = logging.getLogger(__name__)


class IterationTimer(HookBase):
    """Hook that puts the seconds of each step into the storage as "time", and logs a summary.

    The time does not include the hooks. The first steps, which allocate memory and tune kernels,
    are not counted.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        """warmup_iter: the first step to be measured, counted from 1."""
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
