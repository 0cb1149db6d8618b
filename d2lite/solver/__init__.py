"""Optimizers, parameter groups and learning rate schedules."""

from torch.optim.lr_scheduler import LRScheduler

from d2lite.solver import build, lr_scheduler
from d2lite.solver.build import (
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from d2lite.solver.lr_scheduler import (
    LRMultiplier,
    WarmupParamScheduler,
)

__all__ = [
    "LRMultiplier",
    "LRScheduler",
    "WarmupParamScheduler",
    "build",
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "lr_scheduler",
]
