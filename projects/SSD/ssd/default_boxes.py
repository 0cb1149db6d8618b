"""The default boxes of SSD (Liu et al. 2016, sec. 2.2)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling import ANCHOR_GENERATOR_REGISTRY
from d2lite.structures import Boxes


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultBoxGenerator(nn.Module):
    """Generator of boxes with one scale per level and several aspect ratios, in every cell."""

    box_dim: int = 4
    """Numbers per box."""

    @configurable
    def __init__(
        self,
        *,
        image_size: int,
        scales: Sequence[float],
        aspect_ratios: Sequence[Sequence[float]],
        steps: Sequence[float] = (),
    ):
        """
        Args:
            image_size: side of the square images, in pixels.
            scales: s_k as shares of the image's side, one per level and one more. A level has
                squares with the sides s_k and sqrt(s_k * s_(k+1)).
            aspect_ratios: per level, width / height in addition to 1; each is also inverted.
            steps: pixels per cell, per level; empty: image_size / cells of the feature map.
        Raises:
            ValueError: the lengths of these lists do not match.
        """
        super().__init__()
        levels = len(aspect_ratios)
        if len(scales) != levels + 1 or len(steps) not in (0, levels):
            raise ValueError(
                f"MODEL.SSD.ASPECT_RATIOS has {levels} levels, so SCALES needs {levels + 1} values "
                f"and STEPS {levels} or none; they have {len(scales)} and {len(steps)}"
            )
        self.image_size = image_size
        self.steps = list(steps)
        self._sizes = []  # by level, (A, 2): width and height as shares of the image's side
        for scale, next_scale, ratios in zip(scales[:-1], scales[1:], aspect_ratios, strict=True):
            between = math.sqrt(scale * next_scale)
            shares = [(scale, scale), (between, between)]
            for ratio in ratios:
                longer, shorter = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
                shares += [(longer, shorter), (shorter, longer)]
            self._sizes.append(torch.tensor(shares).clamp(max=1))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        ssd = cfg.MODEL.SSD
        if len(ssd.ASPECT_RATIOS) != len(input_shape):
            raise ValueError(
                f"MODEL.SSD.ASPECT_RATIOS has {len(ssd.ASPECT_RATIOS)} levels, but the backbone "
                f"returns {len(input_shape)} features; give a list for each"
            )
        return {
            "image_size": ssd.IMAGE_SIZE,
            "scales": ssd.SCALES,
            "aspect_ratios": ssd.ASPECT_RATIOS,
            "steps": ssd.STEPS,
        }

    @property
    def num_anchors(self) -> list[int]:
        """Number of boxes per cell, by level."""
        return [len(sizes) for sizes in self._sizes]

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Return Hi * Wi * A boxes, by row, column and shape, for each (N, C, Hi, Wi) feature map.

        They may extend beyond the image's edges, but none is larger than the image.
        """
        return [
            Boxes(self._level(k, *feature.shape[-2:]).to(feature.device))
            for k, feature in enumerate(features)
        ]

    def _level(self, k: int, height: int, width: int) -> Tensor:
        """Return (height * width * A, 4) boxes of level k."""
        steps = [self.image_size / self.steps[k]] * 2 if self.steps else [height, width]
        y, x = (
            (torch.arange(cells) + 0.5) / step
            for cells, step in zip((height, width), steps, strict=True)
        )
        y, x = torch.meshgrid(y, x, indexing="ij")
        centers = torch.stack((x, y), dim=-1).view(-1, 1, 2)  # (height * width, 1, 2)
        half = 0.5 * self._sizes[k]  # (A, 2)
        corners = torch.cat((centers - half, centers + half), dim=-1)  # (height * width, A, 4)
        return corners.flatten(0, 1) * self.image_size
