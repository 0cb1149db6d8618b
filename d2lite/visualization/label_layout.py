"""Find places for labels where they cover neither each other nor the objects they describe."""

import numpy as np

Rect = tuple[float, float, float, float]  # left, top, right, bottom


class LabelLayout:
    """The places of the labels in one picture."""

    def __init__(self, image_size: tuple[int, int]):
        """image_size: (H, W) of the picture, in the same pixels as all places."""
        self.height, self.width = image_size
        self._taken: list[Rect] = []

    def place(self, size: tuple[int, int], frame: np.ndarray) -> tuple[float, float]:
        """Return the upper left corner for a label of (width, height) that belongs to an XYXY
        frame.

        The preferred place is above the frame, at its left; other nearby places are tried, and
        the one with the least overlap with existing labels is used.
        """
        w, h = size
        x0, y0, x1, y1 = frame
        corners = [(x0, y0 - h), (x1 - w, y0 - h), (x0, y1), (x1 - w, y1), (x0, y0), (x0, y1 - h)]
        corners += [(x1, y0), (x0 - w, y0), (x0, y0 - 2 * h), (x0, y1 + h)]
        inside = [self._moved_inside(c, size) for c in corners]
        # Moving costs too: the label would cover its own object, or be far from it.
        costs = [
            3 * self._overlap(place, size) / (w * h)
            + 0.5 * (abs(place[0] - corner[0]) / w + abs(place[1] - corner[1]) / h)
            + 0.06 * rank
            for rank, (corner, place) in enumerate(zip(corners, inside, strict=True))
        ]
        return self.claim(inside[int(np.argmin(costs))], size)

    def claim(self, corner: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
        """Take a place, moved into the picture if it extends outside; return its corner."""
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
        """Return the area of overlap with all labels so far."""
        if not self._taken:
            return 0.0
        left, top, right, bottom = np.array(self._taken).T
        across = np.minimum(right, corner[0] + size[0]) - np.maximum(left, corner[0])
        down = np.minimum(bottom, corner[1] + size[1]) - np.maximum(top, corner[1])
        return float((across.clip(min=0) * down.clip(min=0)).sum())
