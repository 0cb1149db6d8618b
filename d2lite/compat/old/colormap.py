"""Colors that can be told apart, for drawing many classes or objects."""

import colorsys
import random

import numpy as np

from d2lite.utils.errors import ArgumentError

_NUM_COLORS = 80
_GOLDEN_RATIO = 0.6180339887


# (80, 3) RGB in [0, 1]: hues in golden-ratio steps, so that the first ones are always far apart.
_SATURATIONS, _VALUES = (0.90, 0.60, 0.75), (0.95, 0.75, 0.85, 0.60)
_COLORS = np.array(
    [
        colorsys.hsv_to_rgb(
            (0.55 + index * _GOLDEN_RATIO) % 1.0,
            _SATURATIONS[index % len(_SATURATIONS)],
            _VALUES[index % len(_VALUES)],
        )
        for index in range(_NUM_COLORS)
    ],
    dtype=np.float32,
)


def _scaled(colors: np.ndarray, rgb: bool, maximum: int) -> np.ndarray:
    if maximum not in (1, 255):
        raise ArgumentError(f"maximum is {maximum}; use 255 or 1")
    return (colors if rgb else colors[..., ::-1]) * maximum


def colormap(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return all colors, (80, 3) float32.

    Args:
        rgb: RGB rather than BGR.
        maximum: 255 or 1, the value of a full channel.
    """
    return _scaled(_COLORS, rgb, maximum)


def random_color(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return a random color, (3,) float32; arguments as for `colormap`."""
    return _scaled(_COLORS[random.randrange(_NUM_COLORS)], rgb, maximum)


def random_colors(N: int, rgb: bool = False, maximum: int = 255) -> list[np.ndarray]:
    """Return N different random colors, at most 80; arguments as for `colormap`."""
    if N > _NUM_COLORS:
        raise ValueError(f"there are {_NUM_COLORS} different colors, not {N}")
    return [_scaled(_COLORS[i], rgb, maximum) for i in random.sample(range(_NUM_COLORS), N)]
