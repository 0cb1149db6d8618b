"""Hooks that maintain the statistics of BatchNorm layers."""

import logging
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from d2lite.engine.hooks.due import is_due_or_last
from d2lite.engine.train_loop import HookBase
from d2lite.utils import comm
from d2lite.utils.events import EventStorage

logger = logging.getLogger(__name__)


class PreciseBN(HookBase):
    """Hook that replaces the running statistics of BatchNorm with precise ones.

    It runs the current model in training mode on `num_iter` batches, without updating weights, and
    averages their statistics (Wu & Johnson, Rethinking "Batch" in BatchNorm, 2021). It must come
    before EvalHook.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable, num_iter: int) -> None:
        """
        Args:
            period: iterations between updates; 0 updates only after the last iteration.
            model: its BatchNorm layers in training mode are updated.
            data_loader: a separate training loader. Every update uses the same batches, so a
                resumed run gets the same statistics as an uninterrupted one.
            num_iter: number of batches per update.
        """
        self._period = period
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._model = model
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("PreciseBN is off: no BatchNorm layer of the model is in training mode")
        has_state = hasattr(data_loader, "state_dict")
        self._loader_start: dict | None = data_loader.state_dict() if has_state else None

    def after_step(self) -> None:
        if is_due_or_last(self.trainer, self._period):
            self.update_stats()

    def state_dict(self) -> dict:
        return {} if self._loader_start is None else {"data_loader": self._loader_start}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the stream of the resumed run, whose seed may have been random."""
        self._loader_start = state_dict["data_loader"]

    def update_stats(self) -> None:
        """Compute the statistics now."""
        if self._disabled:
            return
        if self._loader_start is not None:
            self._data_loader.load_state_dict(self._loader_start)
        logger.info("PreciseBN: averaging the statistics of %d batches", self._num_iter)
        # What the model logs in this pass does not belong to a training iteration.
        with EventStorage():
            update_bn_stats(self._model, self._batches(), self._num_iter)

    def _batches(self) -> Iterator:
        yield from iter(self._data_loader)


class SyncBuffers(HookBase):
    """Hook that averages the floating-point buffers over the ranks before they are used.

    BatchNorm statistics of a rank follow its own images. If a checkpoint or an evaluation is due,
    all ranks take the mean, so that they evaluate exactly the model that is saved. The hook must
    come before those that save and evaluate.
    """

    def __init__(self, model: nn.Module, periods: Iterable[int]) -> None:
        """periods: iterations between checkpoints, between evaluations, and so on."""
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._periods = list(periods)

    def after_step(self) -> None:
        if is_due_or_last(self.trainer, *self._periods):
            self.average()

    def before_stop(self) -> None:
        self.average()

    @torch.no_grad()
    def average(self) -> None:
        """Set the buffers of all ranks to their mean, with one all-reduce."""
        if comm.get_world_size() == 1 or not self._buffers:
            return
        flat = torch.cat([buffer.flatten().double() for buffer in self._buffers])
        dist.all_reduce(flat)
        flat /= comm.get_world_size()
        for buffer, mean in zip(
            self._buffers, flat.split([b.numel() for b in self._buffers]), strict=True
        ):
            buffer.copy_(mean.view_as(buffer))
