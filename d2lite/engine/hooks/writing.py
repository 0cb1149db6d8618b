"""The hook that calls the event writers."""

import contextlib
from collections.abc import Iterable

from d2lite.engine.hooks.due import at_last_iteration
from d2lite.engine.train_loop import HookBase
from d2lite.utils.events import EventWriter
from d2lite.utils.periods import is_due, is_last


class PeriodicWriter(HookBase):
    """Hook that calls the writers every `period` iterations, and once more after training.

    It must be the last hook, so that the values of all others are in the storage.
    """

    def __init__(self, writers: Iterable[EventWriter], period: int = 20) -> None:
        self._writers = list(writers)
        for writer in self._writers:
            assert isinstance(writer, EventWriter), f"{writer!r} is not an EventWriter"
        self._period = period

    def before_train(self) -> None:
        with at_last_iteration(self.trainer) as resumed:
            if resumed:
                # The previous run may have written only part of this iteration's values, or values
                # of a later one, since writers also write when a run fails.
                for writer in self._writers:
                    writer.write_last_again()
                self._write_if_due()

    def after_step(self) -> None:
        self._write_if_due()

    def _write_if_due(self) -> None:
        iteration, storage = self.trainer.iter, self.trainer.storage
        # The next evaluation or epoch would overwrite these values.
        asked_for = iteration in (storage.evaluated_iter, storage.write_iter)
        always = asked_for or is_last(iteration, self.trainer.max_iter)
        for writer in self._writers:
            if always or is_due(iteration, self._period) or writer.every_iteration:
                writer.write()

    def after_train(self) -> None:
        with contextlib.ExitStack() as closing:  # close all of them, even if one fails
            for writer in self._writers:
                closing.callback(writer.close)
                # The evaluation after training has put values since the last write. If the run will
                # be resumed, its checkpoint has them.
                if not getattr(self.trainer, "_left", False):
                    writer.write()
