"""Labels find places where they hide little."""

import numpy as np

from d2lite.visualization.label_layout import LabelLayout


def test_labels_avoid_each_other():
    layout = LabelLayout((200, 200))
    size = (40, 10)
    frames = [np.array([20.0 + 5 * i, 50.0, 120.0, 120.0]) for i in range(4)]
    places = [layout.place(size, frame) for frame in frames]
    assert places[0] == (20, 40)  # above, at the left
    for i, (x0, y0) in enumerate(places):
        for x1, y1 in places[i + 1 :]:
            assert abs(x0 - x1) >= 40 or abs(y0 - y1) >= 10
    x, y = LabelLayout((200, 200)).place(size, np.array([190.0, 0.0, 199.0, 9.0]))
    assert 0 <= x <= 160 and 0 <= y <= 190
