"""Deltas whose centers stay near their anchors."""

import torch
from torch import Tensor

from d2lite.modeling.box_regression import Box2BoxTransform


class ClampedBox2BoxTransform(Box2BoxTransform):
    """`Box2BoxTransform` that limits the distance of a decoded center from its anchor's center.

    Otherwise, a small delta could move the box of a large anchor across the image.
    """

    def __init__(
        self, weights: tuple[float, float, float, float], ctr_clamp: float, **kwargs: float
    ):
        """See `Box2BoxTransform` for the other arguments.

        Args:
            ctr_clamp: maximum shift of a center along each axis, in pixels.
        """
        super().__init__(weights, **kwargs)
        self.ctr_clamp = ctr_clamp

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply (N, 4) deltas to (N, 4) boxes and return (N, 4) boxes."""
        size = boxes[:, 2:] - boxes[:, :2]
        limit = self.ctr_clamp / size * size.new_tensor(self.weights[:2])  # (N, 2), in deltas
        shift = torch.maximum(torch.minimum(deltas[:, :2].float(), limit), -limit)
        return super().apply_deltas(torch.cat((shift, deltas[:, 2:].float()), dim=1), boxes)
