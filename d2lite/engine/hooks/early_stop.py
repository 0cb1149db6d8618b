"""Early stopping (TEST.PATIENCE)."""

import logging

from d2lite.engine.hooks.checkpoints import BestCheckpointer
from d2lite.engine.hooks.due import is_due_before_last
from d2lite.engine.train_loop import HookBase
from d2lite.utils import comm

logger = logging.getLogger(__name__)


class EarlyStop(HookBase):
    """Early stopping hook: ends the training after `patience` evaluations without improvement.

    It must come after BestCheckpointer in the list of hooks, because it reads the iteration of the
    best evaluation from that hook. A periodic checkpoint can't provide it, being saved before the
    evaluation of the same iteration.
    """

    def __init__(
        self, eval_period: int, patience: int, val_metric: str, best: BestCheckpointer | None
    ) -> None:
        """
        Args:
            eval_period: iterations between evaluations; the same value as for EvalHook.
            patience: number of evaluations without improvement that ends the training.
            val_metric: name of the metric in the storage, such as "bbox/AP50".
            best: hook that records the best evaluation; required on the main process, which
                decides for all ranks.
        """
        self._period = eval_period
        self._patience = patience
        self._val_metric = val_metric
        self._best = best
        self._first_iter: int | None = None
        self._stopped = False

    def before_train(self) -> None:
        if self._first_iter is None:
            self._first_iter = self.trainer.start_iter
        # A stopped run that is resumed goes on only if TEST.PATIENCE has been raised since.
        resumed, self._stopped = self._stopped, False
        last = self.trainer.start_iter - 1
        if resumed or (last >= 0 and self.trainer.storage.evaluated_iter == last):
            self._stop_if_due(last)

    def after_step(self) -> None:
        if is_due_before_last(self.trainer, self._period):
            self._stop_if_due(self.trainer.iter)

    def _stop_if_due(self, iteration: int) -> None:
        since_best = 0  # evaluations
        if self._best is not None and self._best.best_iter is not None:
            since_best = (iteration - self._best.best_iter) // self._period
        # Don't stop because of a metric that no evaluation returns; BestCheckpointer warns of it.
        elif self._best is not None and self._val_metric in self.trainer.storage.latest():
            since_best = (iteration + 1 - self._first_iter) // self._period
        # Only the main process has results; a rank that went on alone would wait forever.
        waited = comm.all_gather(since_best)[0]
        if waited >= self._patience:
            logger.info(
                "%s has not improved for %d evaluations (TEST.PATIENCE): stopping at iteration %d",
                self._val_metric,
                waited,
                iteration,
            )
            self._stopped = True
            self.trainer.stop()

    def state_dict(self) -> dict:
        return {"first_iter": self._first_iter, "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict) -> None:
        self._first_iter = state_dict["first_iter"]
        self._stopped = state_dict["stopped"]
