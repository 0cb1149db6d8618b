"""The losses of a step, from all ranks into the EventStorage."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from d2lite.engine.bad_steps import NonFiniteError
from d2lite.utils import comm
from d2lite.utils.event_storage import EventStorage


def put_metrics(
    loss_dict: Mapping[str, Tensor],
    data_time: float,
    cur_iter: int,
    prefix: str,
    storage: EventStorage,
) -> None:
    """Put the losses, averaged over ranks, and the data time into a storage.

    All ranks call it together.

    Raises:
        NonFiniteError: the losses are not finite; on all ranks alike.
    """
    losses = [loss.detach().reshape(()) for loss in loss_dict.values()]
    # A loss that is a constant is often made on the CPU; otherwise all are copied at once.
    if len({loss.device for loss in losses}) == 1:
        # Wide enough for all of them, since stacking promotes.
        losses = torch.stack([x.float() if x.dtype.itemsize < 4 else x for x in losses]).tolist()
    metrics = {name: float(loss) for name, loss in zip(loss_dict, losses, strict=True)}
    storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
    per_rank = comm.all_gather({**metrics, "data_time": data_time})
    # A step waits for the slowest rank.
    slowest = max(metrics.pop("data_time") for metrics in per_rank)
    mean = {name: float(np.mean([metrics[name] for metrics in per_rank])) for name in per_rank[0]}
    total = sum(mean.values())
    if not math.isfinite(total):
        raise NonFiniteError.of_losses(cur_iter, per_rank)
    if not comm.is_main_process():
        return
    storage.put_scalar("data_time", slowest, cur_iter=cur_iter)
    storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
    if len(mean) > 1:
        storage.put_scalars(cur_iter=cur_iter, **mean)
