"""Models of a few layers."""

from collections import OrderedDict

from torch import nn


def detector(**children: nn.Module) -> nn.Module:
    """Return a model with these parts, under their names."""
    return nn.Sequential(OrderedDict(children))
