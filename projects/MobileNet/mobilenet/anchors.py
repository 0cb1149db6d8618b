"""Anchors as in torchvision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2lite.modeling import ANCHOR_GENERATOR_REGISTRY
from d2lite.modeling.anchor_generator import DefaultAnchorGenerator


@ANCHOR_GENERATOR_REGISTRY.register()
class TorchvisionAnchorGenerator(DefaultAnchorGenerator):
    """Generator of anchors with corners at whole pixels, ordered by ratio, then size.

    A head trained by torchvision expects this order; the default generator orders by size, then
    ratio, and does not round.
    """

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Return (len(aspect_ratios) * len(sizes), 4) XYXY boxes around (0, 0)."""
        size = torch.tensor(sizes, dtype=torch.float32)
        stretch = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
        widths = (1 / stretch)[:, None] * size  # (ratios, sizes)
        heights = stretch[:, None] * size
        corners = torch.stack([-widths, -heights, widths, heights], dim=-1)
        return (corners / 2).round().flatten(0, 1)
