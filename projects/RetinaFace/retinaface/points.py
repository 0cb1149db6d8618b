"""Landmarks as offsets from anchors and back."""

from torch import Tensor


def encode_points(points: Tensor, anchors: Tensor, weight: float) -> Tensor:
    """Offsets of landmarks from the centers of anchors, in sides of the anchors.

    Args:
        points: (P, L, 2) x and y in pixels.
        anchors: (P, 4) XYXY.
        weight: factor on the offsets, which brings them near unit variance.
    Returns:
        (P, L, 2)
    """
    center, size = _center_and_size(anchors)
    return (points - center) / size * weight


def decode_points(offsets: Tensor, anchors: Tensor, weight: float) -> Tensor:
    """(P, L, 2) landmarks in pixels, of offsets that `encode_points` gave; in float32."""
    center, size = _center_and_size(anchors)
    return center + offsets.float() / weight * size


def _center_and_size(anchors: Tensor) -> tuple[Tensor, Tensor]:
    """(P, 1, 2) each, of (P, 4) boxes."""
    low, high = anchors[:, None, :2], anchors[:, None, 2:]
    return (low + high) / 2, high - low
