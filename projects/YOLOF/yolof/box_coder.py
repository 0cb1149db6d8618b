"""Deltas whose centers stay near their anchors."""

import torch
from torch import Tensor

from d2lite.modeling.box_regression import Box2BoxTransform


class ClampedBox2BoxTransform(Box2BoxTransform):
    """`Box2BoxTransform` that decodes no center farther than some pixels from its anchor's.

    A large anchor could otherwise send its box across the image by a small delta.
    """

    def __init__(
        self, weights: tuple[float, float, float, float], ctr_clamp: float, **kwargs: float
    ):
        """Arguments of `Box2BoxTransform`, and this.

        Args:
            ctr_clamp: the farthest that a center moves along each axis, in pixels.
        """
        super().__init__(weights, **kwargs)
        self.ctr_clamp = ctr_clamp

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, 4) deltas from (N, 4) boxes to (N, 4) boxes."""
        size = boxes[:, 2:] - boxes[:, :2]
        limit = self.ctr_clamp / size * size.new_tensor(self.weights[:2])  # (N, 2), in deltas
        shift = torch.maximum(torch.minimum(deltas[:, :2].float(), limit), -limit)
        return super().apply_deltas(torch.cat((shift, deltas[:, 2:].float()), dim=1), boxes)
