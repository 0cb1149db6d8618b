"""Epochs, that is passes over the training images, as a unit of time."""

import logging
import math
from collections.abc import Iterable

from d2lite.config import CfgNode

logger = logging.getLogger(__name__)


def epochs_done(iterations: int, num_images: int, batch_size: int) -> int:
    """Return how many epochs are complete after so many iterations."""
    return iterations * batch_size // num_images


def count_images(data_loader: Iterable) -> int:
    """Return how many images an epoch of a training loader has.

    Raises:
        ValueError: the loader does not know it.
    """
    try:
        return len(data_loader.dataset)
    except (AttributeError, TypeError):
        raise ValueError(
            f"{type(data_loader).__name__} does not know how many images it has (`dataset` with a "
            "length), so there are no epochs: set TEST.EVAL_EPOCHS and SOLVER.CHECKPOINT_EPOCHS "
            "to 0, and SOLVER.EPOCH_LOSSES to False"
        ) from None


def with_periods_of_epochs(cfg: CfgNode, data_loader: Iterable) -> CfgNode:
    """Return the config with TEST.EVAL_PERIOD as TEST.EVAL_EPOCHS says, and
    SOLVER.CHECKPOINT_PERIOD as SOLVER.CHECKPOINT_EPOCHS says, where these are above 0.

    Periods are whole iterations, rounded up, as `d2lite train --epochs` rounds.

    Raises:
        ValueError: the loader does not know how many images it has.
    """
    wanted = {
        ("TEST", "EVAL_PERIOD"): cfg.TEST.EVAL_EPOCHS,
        ("SOLVER", "CHECKPOINT_PERIOD"): cfg.SOLVER.CHECKPOINT_EPOCHS,
    }
    if not any(wanted.values()):
        return cfg
    num_images, frozen = count_images(data_loader), cfg.is_frozen()
    cfg = cfg.clone()
    cfg.defrost()
    for (node, key), epochs in wanted.items():
        if epochs > 0:
            cfg[node][key] = math.ceil(epochs * num_images / cfg.SOLVER.IMS_PER_BATCH)
            logger.info(
                "%s.%s is %d iterations, for %g times %d images",
                *(node, key, cfg[node][key], epochs, num_images),
            )
    if frozen:
        cfg.freeze()
    return cfg
