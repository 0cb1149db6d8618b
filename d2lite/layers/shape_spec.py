"""Shape of the feature map that a module outputs, known before it runs."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Shape of a feature map, as far as it is known before any image is seen.

    Attributes:
        channels: C of the map.
        height: rows of the map, where it is fixed.
        width: columns of the map, where it is fixed.
        stride: input pixels per cell of the map.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
