"""Conversion of landmarks to offsets from anchors and back."""

from torch import Tensor


def encode_points(points: Tensor, anchors: Tensor, weight: float) -> Tensor:
    """Return offsets of landmarks from the centers of anchors, relative to the anchors' sizes.

    Args:
        points: (P, L, 2) x and y in pixels.
        anchors: (P, 4) XYXY.
        weight: factor on the offsets, which brings them close to unit variance.
    Returns:
        (P, L, 2)
    """
    center, size = _center_and_size(anchors)
    return (points - center) / size * weight


def decode_points(offsets: Tensor, anchors: Tensor, weight: float) -> Tensor:
    """Return (P, L, 2) float32 landmarks in pixels from offsets of `encode_points`."""
    center, size = _center_and_size(anchors)
    return center + offsets.float() / weight * size


def _center_and_size(anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return centers and sizes of (P, 4) boxes, (P, 1, 2) each."""
    low, high = anchors[:, None, :2], anchors[:, None, 2:]
    return (low + high) / 2, high - low
