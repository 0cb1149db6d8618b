"""Find places for labels where they hide neither each other nor what they describe."""

import numpy as np

Rect = tuple[float, float, float, float]  # left, top, right, bottom


class LabelLayout:
    """Remembers where labels of one picture already are."""

    def __init__(self, image_size: tuple[int, int]):
        """image_size: (H, W) of the picture, in the pixels that all places are given in."""
        self.height, self.width = image_size
        self._taken: list[Rect] = []

    def place(self, size: tuple[int, int], frame: np.ndarray) -> tuple[float, float]:
        """Return the upper left corner for a label of (width, height) that belongs to an XYXY
        frame.

        Preferred is the place on top of the frame's upper edge, at its left; others near by are
        tried in turn, and the one that overlaps least with labels so far is taken.
        """
        w, h = size
        x0, y0, x1, y1 = frame
        corners = [(x0, y0 - h), (x1 - w, y0 - h), (x0, y1), (x1 - w, y1), (x0, y0), (x0, y1 - h)]
        corners += [(x1, y0), (x0 - w, y0), (x0, y0 - 2 * h), (x0, y1 + h)]
        inside = [self._moved_inside(c, size) for c in corners]
        # Being moved counts as well: the label would cover its own object, or stray from it.
        costs = [
            3 * self._overlap(place, size) / (w * h)
            + 0.5 * (abs(place[0] - corner[0]) / w + abs(place[1] - corner[1]) / h)
            + 0.06 * rank
            for rank, (corner, place) in enumerate(zip(corners, inside, strict=True))
        ]
        return self.claim(inside[int(np.argmin(costs))], size)

    def claim(self, corner: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
        """Take a place, moved into the picture where it reaches out; returns its corner."""
        x, y = self._moved_inside(corner, size)
        self._taken.append((x, y, x + size[0], y + size[1]))
        return x, y

    def _moved_inside(
        self, corner: tuple[float, float], size: tuple[int, int]
    ) -> tuple[float, float]:
        x = min(max(corner[0], 0), max(self.width - size[0], 0))
        y = min(max(corner[1], 0), max(self.height - size[1], 0))
        return float(x), float(y)

    def _overlap(self, corner: tuple[float, float], size: tuple[int, int]) -> float:
        """Area shared with all labels so far."""
        if not self._taken:
            return 0.0
        left, top, right, bottom = np.array(self._taken).T
        across = np.minimum(right, corner[0] + size[0]) - np.maximum(left, corner[0])
        down = np.minimum(bottom, corner[1] + size[1]) - np.maximum(top, corner[1])
        return float((across.clip(min=0) * down.clip(min=0)).sum())
