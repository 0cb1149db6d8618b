"""Colors: what is understood as one, and palettes whose colors differ."""

import random

import numpy as np
import pytest

from d2lite.visualization.colors import (
    colormap,
    distinct_color,
    random_color,
    random_colors,
    to_rgb,
)


@pytest.mark.parametrize(
    "color, expected",
    [
        ("r", (1, 0, 0)),
        ("#ff8000", (1, 128 / 255, 0)),
        ("tomato", (1, 99 / 255, 71 / 255)),
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
        (np.array([0.1, 0.2, 0.3, 1.0]), (0.1, 0.2, 0.3)),
    ],
)
def test_colors(color, expected):
    assert to_rgb(color) == pytest.approx(expected)


@pytest.mark.parametrize("color", [(255, 0, 0), (0.1, 0.2), "no such color"])
def test_wrong_colors(color):
    with pytest.raises(ValueError):
        to_rgb(color)


def test_neighbouring_colors_differ():
    colors = np.array([distinct_color(i) for i in range(24)])
    distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 9 * np.eye(24)
    assert distance.min() > 0.1 and distance.diagonal(1).min() - 0 > 0.5


def test_colors_differ_visibly():
    colors = colormap(rgb=True)
    assert colors.shape == (80, 3) and colors.dtype == np.float32
    assert colors.min() >= 0 and colors.max() <= 255
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distances[~np.eye(80, dtype=bool)].min() > 8
    assert distances[:8, :8][~np.eye(8, dtype=bool)].min() > 60


def test_channel_order_and_maximum():
    np.testing.assert_allclose(colormap(rgb=True, maximum=1)[:, ::-1] * 255, colormap(), rtol=1e-6)
    with pytest.raises(ValueError, match="255 or 1"):
        colormap(maximum=100)


def test_random_colors_are_of_the_map_and_different():
    random.seed(0)
    known = {tuple(color) for color in colormap(rgb=True)}
    assert tuple(random_color(rgb=True)) in known
    drawn = {tuple(color) for color in random_colors(80, rgb=True)}
    assert drawn == known
    with pytest.raises(ValueError, match="80"):
        random_colors(81)
