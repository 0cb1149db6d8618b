"""Private helpers of detectron2's solver."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.config import CfgNode
from d2lite.solver.build import _gradient_clipper
from d2lite.solver.lr_scheduler import warmup_factor_at


def _get_warmup_factor_at_iter(
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the factor of the learning rate during warm-up.

    Args:
        method: "constant" or "linear".
        iter: iteration, from 0; the factor is 1 from `warmup_iters` on.
        warmup_factor: the factor at iteration 0.
    Raises:
        ValueError: unknown method, during the warm-up.
    """
    if iter >= warmup_iters:
        return 1.0
    return warmup_factor_at(method, iter, warmup_iters, warmup_factor)


def _create_gradient_clipper(cfg: CfgNode) -> Callable[[Any], None]:
    """Return a function that clips the gradient of one parameter in place.

    Args:
        cfg: SOLVER.CLIP_GRADIENTS of a config.
    """
    clip = _gradient_clipper(cfg)

    def clip_one(parameter: nn.Parameter | Iterable[nn.Parameter]) -> None:
        one = isinstance(parameter, nn.Parameter)
        clip([parameter] if one else list(parameter))

    return clip_one


def _generate_optimizer_class_with_gradient_clipping(
    optimizer: type[Optimizer],
    *,
    per_param_clipper: Callable[[nn.Parameter], Any] | None = None,
    global_clipper: Callable[[list[nn.Parameter]], Any] | None = None,
) -> type[Optimizer]:
    """Return a class like `optimizer` that clips the gradients before each step.

    Args:
        per_param_clipper: called with each parameter.
        global_clipper: called once with the parameters of all groups; excludes the other.
    """
    assert per_param_clipper is None or global_clipper is None, (
        "Not allowed to use both per-parameter clipping and global clipping"
    )

    def step(self: Optimizer, closure: Callable | None = None) -> Any:
        params = list(itertools.chain(*(group["params"] for group in self.param_groups)))
        if per_param_clipper is not None:
            for param in params:
                per_param_clipper(param)
        else:
            global_clipper(params)
        return super(type(self), self).step(closure)

    return type(optimizer.__name__ + "WithGradientClip", (optimizer,), {"step": step})


class WarmupMultiStepLR(LRScheduler):
    """Warm-up, then a factor `gamma` at each milestone. `LRMultiplier` can do the same."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: list[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ):
        """
        Args:
            optimizer: the optimizer to set the rates of.
            milestones: iterations, ascending.
            gamma: factor at each milestone.
            warmup_factor: factor at iteration 0.
            warmup_iters: iterations until the factor is 1.
            warmup_method: "linear" or "constant".
            last_epoch: the last completed iteration, or -1.

        Raises:
            ValueError: the milestones are not ascending.
        """
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones must be ascending, got {milestones}")
        self.milestones = milestones
        self.gamma = gamma
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the current iteration."""
        factor = warmup_factor_at(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        factor *= self.gamma ** bisect_right(self.milestones, self.last_epoch)
        return [base_lr * factor for base_lr in self.base_lrs]


class WarmupCosineLR(LRScheduler):
    """Warm-up times a half cosine from 1 to 0. `LRMultiplier` can do the same."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ):
        """
        Args:
            optimizer: the optimizer to set the rates of.
            max_iters: iterations until the rate is 0.
            warmup_factor: factor at iteration 0.
            warmup_iters: iterations until the factor of the warm-up is 1.
            warmup_method: "linear" or "constant".
            last_epoch: the last completed iteration, or -1.
        """
        self.max_iters = max_iters
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the current iteration."""
        factor = warmup_factor_at(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        factor *= 0.5 * (1.0 + math.cos(math.pi * self.last_epoch / self.max_iters))
        return [base_lr * factor for base_lr in self.base_lrs]
