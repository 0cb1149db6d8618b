"""The learning-rate schedule: warm-up, then a function of training progress.

`build_lr_scheduler` in `solver/build.py` makes one from a config.
"""

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.utils.registry import check_choice

WARMUP_METHODS = ("linear", "constant")
_METHOD = "warmup_method (SOLVER.WARMUP_METHOD)"


class WarmupParamScheduler(CompositeParamScheduler):
    """A warm-up followed by another schedule."""

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        """Start at `warmup_factor * scheduler(0)`, then hand over to `scheduler`.

        Args:
            scheduler: maps progress in [0, 1) to a value.
            warmup_factor: the first value, relative to the schedule's first value.
            warmup_length: fraction of the training spent on the warm-up, in [0, 1].
            warmup_method: "linear" rises to the schedule's value at the end of the warm-up;
                "constant" stays at the first value until then.
            rescale_interval: if True, the whole schedule runs after the warm-up, compressed; if
                False, the warm-up replaces the start of the schedule.

        Raises:
            ValueError: `warmup_method` is neither of them.
        """
        start = warmup_factor * scheduler(0.0)
        check_choice(_METHOD, warmup_method, WARMUP_METHODS)
        if warmup_method == "constant":
            warmup = ConstantParamScheduler(start)
        else:
            end = scheduler(0.0) if rescale_interval else scheduler(warmup_length)
            warmup = LinearParamScheduler(start, end)
        super().__init__(
            [warmup, scheduler],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
            lengths=[warmup_length, 1 - warmup_length],
        )


class LRMultiplier(LRScheduler):
    """Schedule that multiplies the initial rate of each parameter group by a function of progress.

    `state_dict` contains only the initial rates and the iteration, not the function, so a run can
    be resumed with another schedule.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ):
        """
        Args:
            optimizer: the current rates of its groups are taken as the initial ones.
            multiplier: maps progress in [0, 1] to the factor; progress stays 1 after `max_iter`.
            max_iter: number of iterations of the whole training.
            last_iter: last finished iteration when training resumes; -1 at the start.

        Raises:
            ValueError: `multiplier` is a torch scheduler instead.
        """
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(
                "LRMultiplier needs an fvcore.common.param_scheduler.ParamScheduler as its "
                f"multiplier, not {type(multiplier).__name__}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict:
        """Return the iteration and the initial rates; the schedule itself comes from the config."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        """Return the learning rate of each parameter group at the current iteration."""
        # The step after the last iteration evaluates the schedule at 1, its end value. Schedules
        # that are not defined there (fvcore's constant and fixed-gamma ones) raise.
        factor = self._multiplier(min(self.last_epoch / self._max_iter, 1.0))
        return [base_lr * factor for base_lr in self.base_lrs]


def warmup_factor_at(method: str, iteration: int, warmup_iters: int, warmup_factor: float) -> float:
    """Return the warm-up factor at an iteration; it is 1 from `warmup_iters` on.

    For schedulers that count iterations (DeepLab's, and detectron2's older ones). The training of
    this package warms up by `WarmupParamScheduler`, in fractions of the training.

    Args:
        method: "linear" or "constant".
        iteration: from 0.
        warmup_factor: the factor at iteration 0.
    """
    check_choice(_METHOD, method, WARMUP_METHODS)
    if iteration >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    progress = iteration / warmup_iters
    return warmup_factor * (1 - progress) + progress
