"""Build learning rate schedules from a config, including the polynomial one."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.config import CfgNode
from d2lite.solver import build_lr_scheduler as build_core_lr_scheduler

from .lr_scheduler import WarmupPolyLR


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the schedule named by SOLVER.LR_SCHEDULER_NAME: "WarmupPolyLR", or one of the core.

    Raises:
        ValueError: the name is unknown.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_core_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
