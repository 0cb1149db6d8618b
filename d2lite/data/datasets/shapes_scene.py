"""Layout of the pictures of the embedded dataset: places, sizes and colors of their shapes.

A scene is a function of split and index alone. Coordinates are continuous pixels: the first pixel
goes from 0 to 1.
"""

import math
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
TEXTURES = ("noise", "gradient", "stripes", "checker")
KEYPOINTS = ("top", "bottom", "left", "right", "centre")

# In the shape's own frame. All lie within the hull of every shape, and so in its box.
_KEYPOINT_POINTS = np.array([(0, -1), (0, 1), (-0.5, 0), (0.5, 0), (0, 0)])
_MAX_COVERED = 0.3  # of the smaller of two boxes, so that every shape stays recognizable
_SIDES = (24.0, 112.0)  # longer side of a shape, pixels


@dataclass(frozen=True)
class Split:
    """Number of pictures of a split, and limits on the rotation and stretching of their shapes."""

    length: int
    max_angle: float  # degrees, to either side
    max_stretch: float  # longer side over shorter side


SPLITS = {
    "train": Split(2000, 30.0, 1.4),
    "val": Split(200, 30.0, 1.4),
    "rotated_train": Split(2000, 180.0, 2.2),
    "rotated_val": Split(200, 180.0, 2.2),
}


def _circle(num_points: int, radius: float = 1.0) -> np.ndarray:
    angle = np.arange(num_points) * (2 * math.pi / num_points)
    return radius * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


_STAR = _circle(10) * np.tile([[1.0], [0.45]], (5, 1))
_HALF_CROSS = np.array(
    [(-0.34, -1), (0.34, -1), (0.34, -0.34), (1, -0.34), (1, 0.34), (0.34, 0.34)]
)
_OUTER, _INNER = _circle(40), _circle(40, 0.5)
# Outlines in the shape's own frame: x to the right and y down, both exactly from -1 to 1.
OUTLINES = {
    "circle": _circle(40),
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64),
    "triangle": np.array([(0, -1), (1, 1), (-1, 1)], dtype=np.float64),
    # Stretched, because a five-pointed star does not fill its box.
    "star": (_STAR - _STAR.min(axis=0)) / np.ptp(_STAR, axis=0) * 2 - 1,
    "cross": np.concatenate([_HALF_CROSS, -_HALF_CROSS]),
    # One loop: around outside, across at the top, around the hole the other way, and back.
    "ring": np.concatenate([*(_OUTER, _OUTER[:1]), *(_INNER[:1], _INNER[::-1])]),
}


@dataclass(frozen=True)
class Shape:
    """One object. Its own frame is a box of `size` rotated by `angle` about `center`."""

    category: int  # index into CLASSES
    center: tuple[float, float]
    size: tuple[float, float]  # (width, height) before turning
    angle: float  # degrees, counter-clockwise
    color: tuple[int, int, int]  # RGB

    def place(self, points: np.ndarray) -> np.ndarray:
        """Convert (P, 2) points of the shape's own frame, -1 to 1, to pixels of the picture."""
        theta = math.radians(self.angle)
        u, v = points[:, 0] * (self.size[0] / 2), points[:, 1] * (self.size[1] / 2)
        x = self.center[0] + math.cos(theta) * u + math.sin(theta) * v
        y = self.center[1] - math.sin(theta) * u + math.cos(theta) * v
        return np.column_stack((x, y))

    @cached_property
    def outline(self) -> np.ndarray:
        """(P, 2) vertices in pixels."""
        return self.place(OUTLINES[CLASSES[self.category]])

    def keypoints(self) -> np.ndarray:
        """Return the (5, 2) positions of KEYPOINTS in pixels."""
        return self.place(_KEYPOINT_POINTS)

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """XYXY extent of the whole outline, covered parts included."""
        return (*self.outline.min(axis=0).tolist(), *self.outline.max(axis=0).tolist())


@dataclass(frozen=True)
class Region:
    """A background: everything where a * x + b * y >= c, of pixel indices."""

    texture: int  # index into TEXTURES
    colors: tuple[tuple[int, int, int], tuple[int, int, int]]
    half_plane: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. Later regions and later shapes cover earlier ones."""

    height: int
    width: int
    regions: tuple[Region, ...]
    shapes: tuple[Shape, ...]


def _generator(split: str, index: int, stream: int) -> np.random.Generator:
    # PCG64 and its seeding are the same on every machine; only `random` is drawn from it, which
    # takes the upper 53 bits of each number.
    seed = np.random.SeedSequence([zlib.crc32(split.encode()), index, stream])
    return np.random.Generator(np.random.PCG64(seed))


def texture_generator(split: str, index: int) -> np.random.Generator:
    """Return random numbers for the texture of a picture, independent of those for its scene."""
    return _generator(split, index, stream=1)


class _Draw:
    """Random choices, each made from one uniform number."""

    def __init__(self, split: str, index: int):
        self._uniform = iter(_generator(split, index, stream=0).random(1024).tolist())

    def real(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._uniform)

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * next(self._uniform))


def make_scene(split: str, index: int) -> Scene:
    """Lay out picture `index` of `split` (a key of SPLITS).

    Raises:
        KeyError: the split is unknown.
        IndexError: the index is outside of the split.
    """
    if not 0 <= index < SPLITS[split].length:
        raise IndexError(f"shapes {split!r} has pictures 0 to {SPLITS[split].length - 1}")
    draw = _Draw(split, index)
    sides = draw.whole(160, 192), draw.whole(192, 240)
    height, width = sides if draw.whole(0, 2) else sides[::-1]  # two thirds are landscape
    regions = [_make_region(draw, (0, 0, 0))]  # everywhere
    if draw.whole(0, 1):  # half of the pictures have a second background, cut by a line
        a, b = draw.whole(-8, 8), draw.whole(1, 8)
        c = int(a * width * draw.real(0.3, 0.7) + b * height * draw.real(0.3, 0.7))
        regions.append(_make_region(draw, (a, b, c)))
    wanted = draw.whole(1, 6)
    shapes: list[Shape] = []
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(4 * wanted):  # places that are taken cost an attempt
        shape = _make_shape(draw, height, width, SPLITS[split])
        box = shape.box
        inside = box[0] >= 1 and box[1] >= 1 and box[2] <= width - 1 and box[3] <= height - 1
        if inside and all(_covered(box, other) <= _MAX_COVERED for other in boxes):
            shapes.append(shape)
            boxes.append(box)
        if len(shapes) == wanted:
            break
    if not shapes:  # no attempt succeeded, but no picture is empty: one shape in the middle
        category = draw.whole(0, len(CLASSES) - 1)
        color = _make_color(draw, category)
        shapes.append(Shape(category, (width / 2, height / 2), (60.0, 60.0), 0.0, color))
    return Scene(height, width, tuple(regions), tuple(shapes))


def _make_region(draw: _Draw, half_plane: tuple[int, int, int]) -> Region:
    texture = draw.whole(0, len(TEXTURES) - 1)
    gray = draw.whole(60, 190)
    # Backgrounds are dull: shapes, which are not, can be told from them.
    colors = tuple(
        tuple(gray + side * draw.whole(8, 30) + draw.whole(-12, 12) for _ in range(3))
        for side in (-1, 1)
    )
    return Region(texture, colors, half_plane)


def _make_shape(draw: _Draw, height: int, width: int, split: Split) -> Shape:
    category = draw.whole(0, len(CLASSES) - 1)
    low, high = _SIDES
    longer = low * (min(high, 0.6 * height, 0.6 * width) / low) ** draw.real(0, 1)  # log-uniform
    shorter = longer / draw.real(1, split.max_stretch)
    size = (longer, shorter) if draw.whole(0, 1) else (shorter, longer)
    angle = draw.real(-split.max_angle, split.max_angle)
    reach = longer / 2
    center = draw.real(reach, width - reach), draw.real(reach, height - reach)
    return Shape(category, center, size, angle, _make_color(draw, category))


def _make_color(draw: _Draw, category: int) -> tuple[int, int, int]:
    """Return a bright color. Its hue depends on the class, but neighboring classes overlap."""
    hue = (category + draw.real(-0.7, 0.7)) / len(CLASSES) % 1.0
    value = draw.whole(190, 255)
    dark = int(value * draw.real(0.05, 0.3))
    sector, part = divmod(hue * 6, 1)
    rising, falling = dark + int((value - dark) * part), value - int((value - dark) * part)
    return (
        (value, rising, dark),
        (falling, value, dark),
        (dark, value, rising),
        (dark, falling, value),
        (rising, dark, value),
        (value, dark, falling),
    )[int(sector) % 6]


def _covered(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the share of the smaller of two XYXY boxes that the other covers."""
    w = min(box[2], other[2]) - max(box[0], other[0])
    h = min(box[3], other[3]) - max(box[1], other[1])
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return max(w, 0.0) * max(h, 0.0) / min(areas)
