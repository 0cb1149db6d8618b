"""Statistics of what the layers of a model compute."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.engine.hooks.due import at_last_iteration
from d2lite.engine.train_loop import HookBase
from d2lite.utils import comm
from d2lite.utils.periods import is_due


class ActivationStatistics(HookBase):
    """Hook that puts the mean, the standard deviation and the fraction of zeros of each layer's
    output into the storage, as "activation/LAYER/mean", "/std" and "/zeros".

    Layers are the modules with a weight of two or more dimensions, such as convolutions with their
    norm and activation. If one is called several times, all of its outputs count. Only the images
    of the main process are used.
    """

    def __init__(self, model: nn.Module, period: int) -> None:
        """
        Args:
            model: the model in training, with or without DDP.
            period: iterations between statistics.
        """
        self._model = getattr(model, "module", model)
        self._period = period
        self._handles: list = []
        self._outputs: dict[str, list[tuple[int, Tensor]]] = {}  # size; mean, variance, zeros

    def before_train(self) -> None:
        with at_last_iteration(self.trainer) as resumed:
            if resumed and is_due(self.trainer.iter, self._period):
                self.trainer.storage.write_iter = self.trainer.iter

    def before_step(self) -> None:
        if not is_due(self.trainer.iter, self._period) or not comm.is_main_process():
            return
        for name, module in self._model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.ndim >= 2:
                handle = module.register_forward_hook(partial(self._add, name))
                self._handles.append(handle)

    @torch.no_grad()
    def _add(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel() > 0:
            values = output.detach().float()
            variance, mean = torch.var_mean(values, correction=0)
            statistics = torch.stack([mean, variance, (values == 0).float().mean()])
            self._outputs.setdefault(name, []).append((values.numel(), statistics))

    def after_step(self) -> None:
        if not is_due(self.trainer.iter, self._period):
            return
        storage = self.trainer.storage
        storage.write_iter = self.trainer.iter
        for name, outputs in self._outputs.items():
            counts = [count for count, _ in outputs]
            means, variances, shares = zip(*(x.tolist() for _, x in outputs), strict=True)
            mean = _average(means, counts)
            # The variance of all values: that within each output plus that of the means.
            squares = [v + (m - mean) ** 2 for v, m in zip(variances, means, strict=True)]
            statistics = {"mean": mean, "std": _average(squares, counts) ** 0.5}
            statistics["zeros"] = _average(shares, counts)
            for what, value in statistics.items():
                storage.put_scalar(f"activation/{name}/{what}", value, smoothing_hint=False)
        self._remove()

    def after_train(self) -> None:
        self._remove()  # in case a step failed

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._outputs = [], {}


def _average(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
