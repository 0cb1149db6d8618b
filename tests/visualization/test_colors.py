"""Colors: what is understood as one, and a palette whose colors differ."""

import numpy as np
import pytest

from d2lite.visualization.colors import distinct_color, to_rgb


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


def test_neighboring_colors_differ():
    colors = np.array([distinct_color(i) for i in range(24)])
    distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 9 * np.eye(24)
    assert distance.min() > 0.1 and distance.diagonal(1).min() - 0 > 0.5
