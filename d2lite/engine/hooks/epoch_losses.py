"""The mean losses of each epoch."""

import logging

from d2lite.engine.epochs import epochs_done
from d2lite.engine.hooks.due import at_last_iteration
from d2lite.engine.train_loop import HookBase

logger = logging.getLogger(__name__)

# Losses of other hooks.
_OTHERS = ("epoch/", "val_loss/")


class EpochLosses(HookBase):
    """Hook that puts the mean of each loss over an epoch into the storage as "epoch/NAME", and the
    number of complete epochs as "epoch/number".

    An epoch ends with the iteration that takes its last image. The hook must come before those that
    save checkpoints, which contain the sums of an incomplete epoch.
    """

    def __init__(self, num_images: int, batch_size: int) -> None:
        """num_images: images per epoch. batch_size: images per iteration, over all ranks."""
        self._num_images = num_images
        self._batch_size = batch_size
        self._sums: dict[str, list] = {}  # sum, number of values

    def before_train(self) -> None:
        with at_last_iteration(self.trainer) as resumed:
            if resumed and self._epoch_ends():
                self.trainer.storage.write_iter = self.trainer.iter

    def after_step(self) -> None:
        storage, iteration = self.trainer.storage, self.trainer.iter
        for name, (value, its_iteration) in storage.latest().items():
            if "loss" in name and its_iteration == iteration and not name.startswith(_OTHERS):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = [total + value, count + 1]
        if not self._epoch_ends():
            return
        number = epochs_done(iteration + 1, self._num_images, self._batch_size)
        means = {name: total / count for name, (total, count) in self._sums.items()}
        for name, value in {**means, "number": number}.items():
            storage.put_scalar(f"epoch/{name}", value, smoothing_hint=False)
        storage.write_iter = iteration
        shown = "  ".join(f"{name}: {value:.4g}" for name, value in means.items())
        logger.info("Epoch %d is complete. Mean losses: %s", number, shown)
        self._sums = {}

    def _epoch_ends(self) -> bool:
        before, after = (
            epochs_done(self.trainer.iter + done, self._num_images, self._batch_size)
            for done in (0, 1)
        )
        return after > before

    def state_dict(self) -> dict:
        return {"sums": self._sums}

    def load_state_dict(self, state_dict: dict) -> None:
        self._sums = dict(state_dict["sums"])
