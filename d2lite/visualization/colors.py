"""Colors for drawing: parsing, and a palette whose neighbors are easy to tell apart."""

import colorsys
from collections.abc import Sequence

import numpy as np

Color = str | Sequence[float] | np.ndarray
RGB = tuple[float, float, float]  # each in [0, 1]

# matplotlib's one-letter names, so that common calls do not need to import matplotlib.
_LETTERS: dict[str, RGB] = {
    "b": (0.0, 0.0, 1.0),
    "g": (0.0, 0.5, 0.0),
    "r": (1.0, 0.0, 0.0),
    "c": (0.0, 0.75, 0.75),
    "m": (0.75, 0.0, 0.75),
    "y": (0.75, 0.75, 0.0),
    "k": (0.0, 0.0, 0.0),
    "w": (1.0, 1.0, 1.0),
}
# Step on the circle of hues, with which successive hues stay far apart for long.
_GOLDEN_RATIO = 0.618034
_SHADES = ((0.85, 0.95), (0.6, 1.0), (0.95, 0.75))  # (saturation, value), one round of hues each


def to_rgb(color: Color) -> RGB:
    """Return a color as red, green, blue in [0, 1].

    Args:
        color: 3 (or 4) numbers in [0, 1], "#rrggbb", or any name that matplotlib knows.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(color, str):
        if color in _LETTERS:
            return _LETTERS[color]
        from matplotlib.colors import to_rgb as parse

        return parse(color)
    values = tuple(float(v) for v in color)[:3]
    if len(values) != 3 or not all(-1e-6 <= v <= 1 + 1e-6 for v in values):
        raise ValueError(f"color {color!r} is not red, green and blue in [0, 1]; divide by 255?")
    return tuple(min(max(v, 0.0), 1.0) for v in values)


def distinct_color(index: int) -> RGB:
    """Return the color with this index: fixed, bright, and unlike those of nearby indices."""
    hue = (0.58 + index * _GOLDEN_RATIO) % 1.0
    saturation, value = _SHADES[(index // 8) % len(_SHADES)]
    return colorsys.hsv_to_rgb(hue, saturation, value)


def is_light(color: RGB) -> bool:
    """Return whether dark text is more readable on this color than light text."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.55


def change_brightness(color: RGB, factor: float) -> RGB:
    """Lighten (factor in (0, 1]) or darken (in [-1, 0)) a color without changing its hue."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*color)
    lightness = min(max(lightness * (1 + factor), 0.0), 1.0)
    return colorsys.hls_to_rgb(hue, lightness, saturation)
