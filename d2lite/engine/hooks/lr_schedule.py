"""The hook that steps the learning rate schedule."""

from collections import Counter

from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler as TorchLRScheduler

from d2lite.checkpoint.resuming import log_kept_schedule
from d2lite.engine.train_loop import HookBase
from d2lite.solver import LRMultiplier
from d2lite.utils.periods import is_last


class LRScheduler(HookBase):
    """Hook that steps the learning rate schedule, and puts the rate into the storage as "lr"."""

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        scheduler: TorchLRScheduler | ParamScheduler | None = None,
    ) -> None:
        """
        Args:
            optimizer: by default the trainer's.
            scheduler: by default the trainer's. A ParamScheduler gives the factor on the initial
                rates as a function of training progress.
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
        """Return the parameter group whose rate is logged: one with the most common initial rate
        or, if all rates differ, the group with the most parameters."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if len(optimizer.param_groups) > 1 and max(sizes) == 1:
            # One group per parameter: take the most common rate.
            rates = [group["lr"] for group in optimizer.param_groups]
            return rates.index(Counter(rates).most_common(1)[0][0])
        return sizes.index(max(sizes))

    def after_step(self) -> None:
        lr = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", float(lr), smoothing_hint=False)
        try:
            self.scheduler.step()
        except (IndexError, RuntimeError):
            # Some of fvcore's schedules are not defined at the end, which no iteration uses.
            if not is_last(self.trainer.iter, self.trainer.max_iter):
                raise

    @property
    def scheduler(self) -> TorchLRScheduler | ParamScheduler:
        """The schedule given to the hook, or else the trainer's."""
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
