"""detectron2's table of colors, under its path."""

import random

import numpy as np
import pytest

from d2lite.utils.colormap import colormap, random_color, random_colors


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
