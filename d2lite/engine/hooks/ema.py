"""The exponential moving average of a model's weights."""

import logging
import os
from functools import partial

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from d2lite.checkpoint import model_entries, save_checkpoint_file
from d2lite.engine.train_loop import HookBase, is_complete
from d2lite.utils import comm

logger = logging.getLogger(__name__)


class ModelEMA(HookBase):
    """Hook that averages weights and buffers: after each step,
    average = decay * average + (1 - decay) * model (Polyak & Juditsky 1992).

    After t steps the decay is at most (1 + t) / (10 + t), as in TensorFlow's
    ExponentialMovingAverage; otherwise short runs would stay near their first weights.

    The average often detects better than the weights of the last step. It is evaluated instead of
    them, stored in checkpoints, and saved as a separate model. The hook must come before those that
    use the average.

    Attributes:
        model: the averaged model, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float, output_dir: str) -> None:
        """
        Args:
            model: the model in training, with or without DDP.
            decay: 0 <= decay < 1; the average covers about 1 / (1 - decay) steps.
            output_dir: folder for `save`.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"MODEL_EMA.DECAY is {decay}; it must be at least 0 and below 1")
        self._live = model.module if isinstance(model, DistributedDataParallel) else model
        self._average = AveragedModel(
            self._live, multi_avg_fn=partial(_update, decay), use_buffers=True
        )
        self.model: nn.Module = self._average.module.eval()
        self._output_dir = output_dir

    def before_train(self) -> None:
        """Start from the loaded weights."""
        if self._average.n_averaged == 0:
            self._average.update_parameters(self._live)

    def after_step(self) -> None:
        self._average.update_parameters(self._live)

    def after_train(self) -> None:
        """Save the final average as model_final_ema.pth."""
        if is_complete(self.trainer):
            self.save("model_final")

    def save(self, prefix: str) -> None:
        """Save the average as PREFIX_ema.pth, which can be used as MODEL.WEIGHTS."""
        if comm.is_main_process():
            path = os.path.join(self._output_dir, f"{prefix}_ema.pth")
            save_checkpoint_file(model_entries(self.model), path)
            logger.info("The averaged weights are in %s", path)

    def state_dict(self) -> dict:
        return self._average.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        self._average.load_state_dict(state_dict)


def _update(decay: float, average: list, model: list, num_averaged: Tensor | int) -> None:
    """Update the average. The first update is a copy, so `num_averaged` counts from 1."""
    steps = int(num_averaged)
    get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(average, model, num_averaged)
