"""Colors for drawing: parsing, and palettes whose neighbors are easy to tell apart."""

import colorsys
import random
from collections.abc import Sequence

import numpy as np

from d2lite.utils.errors import ArgumentError

Color = str | Sequence[float] | np.ndarray
RGB = tuple[float, float, float]  # each in [0, 1]

# matplotlib's one-letter names, so that the usual calls need not import matplotlib.
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
# Hues that are this far apart on the circle of hues never come close to each other soon.
_GOLDEN_RATIO = 0.6180339887
_SHADES = ((0.85, 0.95), (0.6, 1.0), (0.95, 0.75))  # (saturation, value), one round of hues each
_MAP_SIZE = 80


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
    """Return the color of the `index`-th thing: fixed, bright, and unlike those beside it."""
    hue = (0.58 + index * _GOLDEN_RATIO) % 1.0
    saturation, value = _SHADES[(index // 8) % len(_SHADES)]
    return colorsys.hsv_to_rgb(hue, saturation, value)


def is_light(color: RGB) -> bool:
    """Return whether dark text is read better on this color than light text."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.55


def change_brightness(color: RGB, factor: float) -> RGB:
    """Lighten (factor in (0, 1]) or darken (in [-1, 0)) a color without changing its hue."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*color)
    lightness = min(max(lightness * (1 + factor), 0.0), 1.0)
    return colorsys.hls_to_rgb(hue, lightness, saturation)


# -- a table of colors, under detectron2's names --------------------------------------------------


def _make_colormap() -> np.ndarray:
    """(80, 3) RGB in [0, 1], any first few of which are far apart."""
    saturations, values = (0.90, 0.60, 0.75), (0.95, 0.75, 0.85, 0.60)
    colors = [
        colorsys.hsv_to_rgb(
            (0.55 + index * _GOLDEN_RATIO) % 1.0,
            saturations[index % len(saturations)],
            values[index % len(values)],
        )
        for index in range(_MAP_SIZE)
    ]
    return np.array(colors, dtype=np.float32)


_COLORMAP = _make_colormap()


def _scaled(colors: np.ndarray, rgb: bool, maximum: int) -> np.ndarray:
    if maximum not in (1, 255):
        raise ArgumentError(f"maximum is {maximum}; use 255 or 1")
    return (colors if rgb else colors[..., ::-1]) * maximum


def colormap(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return all colors of the table, (80, 3) float32.

    Args:
        rgb: RGB rather than BGR.
        maximum: 255 or 1, the value of a full channel.
    """
    return _scaled(_COLORMAP, rgb, maximum)


def random_color(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Draw one of the table's colors with `random`, (3,) float32; see `colormap`."""
    return _scaled(_COLORMAP[random.randrange(_MAP_SIZE)], rgb, maximum)


def random_colors(N: int, rgb: bool = False, maximum: int = 255) -> list[np.ndarray]:
    """Draw N different colors of the table, at most 80, with `random`; see `colormap`."""
    if N > _MAP_SIZE:
        raise ValueError(f"there are {_MAP_SIZE} different colors, not {N}")
    return [_scaled(_COLORMAP[i], rgb, maximum) for i in random.sample(range(_MAP_SIZE), N)]
