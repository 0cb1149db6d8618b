"""Learning rate schedules: a function of training progress, and what steps it along."""

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
    """Another schedule with a warm-up in its place at the start."""

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        """Warm up from `warmup_factor * scheduler(0)` to where the schedule goes on.

        Args:
            scheduler: maps progress in [0, 1) to a value.
            warmup_factor: the first value, relative to the schedule's first value.
            warmup_length: share of the training that the warm-up takes, in [0, 1].
            warmup_method: "linear" climbs to the value that the schedule has when the warm-up
                ends; "constant" stays at the first value until then.
            rescale_interval: True runs the whole schedule after the warm-up; False has the
                schedule go on as if there had been no warm-up.

        Raises:
            ValueError: for another `warmup_method`.
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
    """Sets the rate of each parameter group to its initial one times a function of progress.

    The function is never changed by a checkpoint: `state_dict` has the initial rates and the
    iteration only, so a run can be resumed under another schedule.
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
            optimizer: its groups' present rates are the initial ones.
            multiplier: maps progress in [0, 1] to the factor; after `max_iter` it is asked for 1.
            max_iter: number of iterations of the whole training.
            last_iter: the last iteration done when training is taken up again; -1 at the start.

        Raises:
            ValueError: when `multiplier` is a scheduler of an optimizer instead.
        """
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(
                "LRMultiplier needs a fvcore.common.param_scheduler.ParamScheduler as its "
                f"multiplier, not {type(multiplier).__name__}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict:
        """Return the iteration and the initial rates; the schedule itself comes from the config."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the present iteration."""
        # The step after the last iteration reaches the end of the schedule, where some (fvcore's
        # constant one and that of fixed factors) have no value and raise.
        factor = self._multiplier(min(self.last_epoch / self._max_iter, 1.0))
        return [base_lr * factor for base_lr in self.base_lrs]


def warmup_factor_at(method: str, iteration: int, warmup_iters: int, warmup_factor: float) -> float:
    """Return the factor at an iteration: 1 from `warmup_iters` on, before that by `method`.

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
