"""Scale a training schedule to another batch size."""

import logging

from d2lite.config import CfgNode
from d2lite.utils.errors import ArgumentError

logger = logging.getLogger(__name__)


def auto_scale(cfg: CfgNode, num_workers: int) -> CfgNode:
    """Scale the schedule to the number of processes or the batch size, if the config requests it.

    `SOLVER.REFERENCE_WORLD_SIZE` > 0: the batch size grows with the number of processes, keeping
    the number of images per process. `SOLVER.AUTO_SCALE_LR`: the batch size stays, and the
    schedule, made for `SOLVER.REFERENCE_BATCH` images, is scaled to it.

    Args:
        num_workers: number of processes of this job.

    Returns:
        The config itself if nothing changes, otherwise a scaled copy.
    """
    solver = cfg.SOLVER
    reference = solver.REFERENCE_WORLD_SIZE
    if reference not in (0, num_workers):
        if solver.IMS_PER_BATCH % reference:
            raise ArgumentError(
                f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is not a multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        batch_size = solver.IMS_PER_BATCH // reference * num_workers
        scaled = scale_to_batch_size(cfg, solver.IMS_PER_BATCH, batch_size)
        scaled.defrost()
        scaled.SOLVER.REFERENCE_WORLD_SIZE = num_workers  # scaling again changes nothing
    elif solver.AUTO_SCALE_LR and solver.IMS_PER_BATCH != solver.REFERENCE_BATCH:
        scaled = scale_to_batch_size(cfg, solver.REFERENCE_BATCH, solver.IMS_PER_BATCH)
        scaled.defrost()
        scaled.SOLVER.REFERENCE_BATCH = solver.IMS_PER_BATCH
    else:
        return cfg
    if cfg.is_frozen():
        scaled.freeze()
    return scaled


def scale_to_batch_size(cfg: CfgNode, old: int, new: int) -> CfgNode:
    """Return a copy of the config for batches of `new` images, made for batches of `old`.

    The learning rate grows in proportion to the batch size, and all numbers of iterations shrink in
    proportion, so that the number of images stays the same (Goyal et al., Accurate, Large Minibatch
    SGD, 2017).
    """
    factor = new / old
    frozen = cfg.is_frozen()
    cfg = cfg.clone()
    cfg.defrost()
    solver = cfg.SOLVER
    solver.IMS_PER_BATCH = new
    solver.BASE_LR *= factor
    solver.MAX_ITER = round(solver.MAX_ITER / factor)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / factor)
    solver.STEPS = tuple(round(step / factor) for step in solver.STEPS)
    solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / factor)
    cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / factor)
    cfg.TEST.LOSS_PERIOD = round(cfg.TEST.LOSS_PERIOD / factor)
    logger.info(
        "Schedule scaled from batches of %d to %d images: learning rate %g, %d iterations, "
        "warm-up %d, steps %s",
        old,
        new,
        solver.BASE_LR,
        solver.MAX_ITER,
        solver.WARMUP_ITERS,
        solver.STEPS,
    )
    if frozen:
        cfg.freeze()
    return cfg
