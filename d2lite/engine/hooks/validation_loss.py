"""The losses of the model on the test sets."""

import copy
import functools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from d2lite.config import CfgNode
from d2lite.data import build_detection_test_loader
from d2lite.data.dataset_mapper import build_dataset_mapper
from d2lite.engine.classes import dataset_classes, trained_classes
from d2lite.engine.hooks.evaluation import EvalHook
from d2lite.engine.hooks.statistics import SyncBuffers
from d2lite.evaluation import match_names
from d2lite.utils import comm
from d2lite.utils.events import EventStorage
from d2lite.utils.random_state import RandomState
from d2lite.utils.stop_signals import check_stop

logger = logging.getLogger(__name__)

# Layers that add noise or compute statistics in training mode.
_NOISY = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, StochasticDepth)


class ValidationLoss(EvalHook):
    """Hook that puts the mean losses on the test images into the storage as "val_loss/NAME".

    They are computed in training mode and without gradients, but with the running statistics of
    BatchNorm and without dropout, as in inference. Each batch uses the same random numbers, so that
    two values differ only because of the weights.

    They are computed by a copy of the model, so the model in training does not change: neither its
    statistics and the averages that a loss keeps, nor its random numbers and stored values.
    """

    def __init__(
        self,
        period: int,
        model: nn.Module,
        data_loaders: Mapping[str, Iterable],
        forward_context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        """
        Args:
            period: iterations between evaluations of the losses; the last one is after training.
            model: the model in training, with or without DDP; returns losses by name.
            data_loaders: by dataset name, loaders of this rank's batches, with annotations. If
                there are several, the names are "val_loss/DATASET/NAME".
            forward_context: makes a context manager for each forward pass, such as autocast.
        """
        super().__init__(period, self._losses)
        self._model = getattr(model, "module", model)
        self._data_loaders = data_loaders
        self._forward_context = forward_context

    def _losses(self) -> dict:
        device = next(self._model.parameters()).device
        before = RandomState.now(device)
        try:
            model = self._copy()
            found = {}
            # Losses may depend on the iteration, but what they log does not belong to it.
            with EventStorage(self.trainer.iter), torch.no_grad():
                for name, loader in self._data_loaders.items():
                    found[name] = self._mean_losses(model, loader)
        finally:
            before.restore(device)
        if not comm.is_main_process():
            return {}
        for name, losses in found.items():
            shown = "  ".join(f"{loss}: {value:.4g}" for loss, value in losses.items())
            logger.info("Validation losses on %s: %s", name, shown or "there are no images")
        return {"val_loss": next(iter(found.values())) if len(found) == 1 else found}

    def _copy(self) -> nn.Module:
        model = copy.deepcopy(self._model).train()
        SyncBuffers(model, []).average()
        for module in model.modules():
            if isinstance(module, _NOISY) or type(module).__name__ == "DropPath":
                module.eval()
            if hasattr(module, "vis_period"):
                module.vis_period = 0
        return model

    def _mean_losses(self, model: nn.Module, loader: Iterable) -> dict[str, float]:
        """Return the means over the images of all ranks on the main process, {} on the others."""
        sums: dict[str, float] = {}
        count = 0
        for batch, is_new in _as_many_on_all_ranks(loader):
            # The same random numbers for each batch, on any number of ranks and in each evaluation.
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            with self._forward_context():
                losses = model(batch)
            losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
            if is_new:
                count += len(batch)
                values = {name: float(loss) for name, loss in losses.items()}
                for name, value in {**values, "total_loss": sum(values.values())}.items():
                    sums[name] = sums.get(name, 0.0) + value * len(batch)
            check_stop()
        gathered = comm.gather((sums, count))
        total = sum(number for _, number in gathered)
        names = {name: None for sums, _ in gathered for name in sums}
        return {name: sum(sums.get(name, 0.0) for sums, _ in gathered) / total for name in names}


def _as_many_on_all_ranks(loader: Iterable) -> Iterator[tuple[Any, bool]]:
    """Yield the batches of a loader, and whether each is new.

    Losses may wait for those of other ranks, so a rank that has fewer batches repeats its last one.
    """
    batches = iter(loader)
    try:
        batch = None
        while True:
            new = next(batches, None)
            if not any(comm.all_gather(new is not None)):
                return
            batch = batch if new is None else new
            if batch is not None:
                yield batch, new is not None
    finally:
        if hasattr(batches, "close"):
            batches.close()


def build_loss_loader(cfg: CfgNode, dataset_name: str, model: nn.Module) -> Iterable:
    """Return a loader that yields the images of a test set once, resized as in testing, with their
    annotations.

    Classes are matched by name with those that the model learns; objects of other classes are left
    out.

    Raises:
        ValueError: the mapper cannot read annotations in testing, or the classes do not match.
    """
    mapper = build_dataset_mapper(cfg, False)
    if not hasattr(mapper, "is_train"):
        raise ValueError(
            f"TEST.LOSS_PERIOD is {cfg.TEST.LOSS_PERIOD}, but INPUT.DATASET_MAPPER "
            f"{cfg.INPUT.DATASET_MAPPER} has no `is_train` that makes it read annotations. Set it "
            "to 0, or override DefaultTrainer.build_loss_loader"
        )
    mapper.is_train = True  # the augmentations are those of testing
    trained, tested = trained_classes(model, cfg), dataset_classes([dataset_name])
    stuff = trained.get("stuff_classes"), tested.get("stuff_classes")
    if all(stuff) and stuff[0] != stuff[1]:
        raise ValueError(
            f"TEST.LOSS_PERIOD is {cfg.TEST.LOSS_PERIOD}, but the stuff classes of {dataset_name} "
            "are not those of DATASETS.TRAIN; set it to 0, or give them the same order"
        )
    names, its_names = trained.get("thing_classes"), tested.get("thing_classes")
    if names and its_names and names != its_names:
        of_test = match_names(names, its_names, f"dataset {dataset_name!r}")
        table = torch.full((len(its_names),), -1)
        for index, its_index in enumerate(of_test):
            if its_index >= 0:
                table[its_index] = index
        mapper = functools.partial(_with_trained_classes, mapper, table)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)


def _with_trained_classes(mapper: Callable, table: Tensor, dataset_dict: dict) -> dict | None:
    mapped = mapper(dataset_dict)
    if mapped is not None and "instances" in mapped:
        instances = mapped["instances"]
        instances.gt_classes = table[instances.gt_classes]
        mapped["instances"] = instances[instances.gt_classes >= 0]
    return mapped
