"""Freezing parameters by patterns of their names."""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters of a model whose names match any of the patterns.

    A batch norm whose parameters are all frozen here also uses its running statistics in training,
    and does not update them. Other layers, including dropout, compute as before.

    Args:
        patterns: shell-style, such as "backbone.*" or "*.bias"; "*" also matches dots.
    Raises:
        ArgumentError: a pattern matches no parameter; the message suggests similar ones.
    """
    names = [name for name, _ in model.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            parts = [name.split(".") for name in names]
            modules = {".".join(p[:n]) + ".*" for p in parts for n in range(1, len(p))}
            raise ArgumentError(
                f"MODEL.FREEZE has {pattern!r}, which matches no parameter of this model."
                f"{did_you_mean(pattern, sorted({*names, *modules}))} The model's parts are "
                f"{', '.join(dict.fromkeys(p[0] for p in parts))}"
            )
        matched.update(found)
    for name, parameter in model.named_parameters():
        if name in matched:
            parameter.requires_grad = False
    num_norms = 0
    for prefix, module in model.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and matched.issuperset(own):
            module.register_forward_pre_hook(_use_running_statistics)
            num_norms += 1
    if matched:
        logger.info(
            "MODEL.FREEZE: %d of %d parameters are frozen, with the statistics of %d batch norms",
            *(len(matched), len(names), num_norms),
        )


def _use_running_statistics(norm: nn.Module, inputs: tuple) -> None:
    if norm.training:  # because `model.train()` was called after freezing
        norm.eval()
