"""An image to draw on: anti-aliased shapes and text with OpenCV and Pillow."""

import functools
import itertools
import os
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np

from d2lite.utils.writing import naming_write_errors
from d2lite.visualization.colors import RGB, Color, is_light, to_rgb

_SHIFT = 4  # OpenCV takes coordinates as integers with this many fractional bits
_DASHES = {"-": None, "--": (6.0, 4.0), ":": (1.5, 2.5), "-.": (6.0, 3.0)}  # in line widths
_LINE_STYLE_NAMES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
_TEXT_CACHE = 1024


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image of one to four channels as (H, W, 3) uint8 RGB, transparent parts on white.

    Args:
        image: (H, W) or (H, W, 1) gray, (H, W, 2) gray and alpha, (H, W, 3) RGB or (H, W, 4) RGBA,
            of any type, 0 to 255; up to 65535 in uint16; True is white; floating-point values are
            from 0 to 1 if none is above 1.

    Raises:
        ValueError: an array of another shape.
    """
    pixels = np.asarray(image)
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    elif pixels.dtype == bool or (pixels.dtype.kind == "f" and np.nanmax(pixels, initial=0) <= 1):
        pixels = (pixels * 255.0).round()
    pixels = np.nan_to_num(pixels).clip(0, 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        raise ValueError(
            f"expected an image (H, W), or (H, W, C) with 1 to 4 channels, got {pixels.shape}"
        )
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:] / 255.0
        pixels = (pixels[:, :, :-1] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


class VisImage:
    """An image under construction.

    Shapes are given in coordinates of the original image, even if it is drawn larger or smaller;
    line widths and font sizes are in pixels of the drawing.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0):
        """
        Args:
            img: (H, W, 3) RGB, 0 to 255, or another form that `as_rgb` takes.
            scale: size of the drawing relative to the image.
        """
        self.scale = scale
        self.height, self.width = img.shape[:2]
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Start again, with an image of the same size."""
        self.img = np.ascontiguousarray(as_rgb(img))
        size = (max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1))
        if size == (self.width, self.height):
            self.canvas = self.img.copy()
        else:
            method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
            self.canvas = cv2.resize(self.img, size, interpolation=method)

    def get_image(self) -> np.ndarray:
        """Return the drawing so far, (H * scale, W * scale, 3) uint8 RGB."""
        if "fig" not in self.__dict__:
            return self.canvas.copy()
        self.fig.canvas.draw()
        overlay = np.asarray(self.fig.canvas.buffer_rgba())
        alpha = overlay[:, :, 3:] / 255.0
        mixed = overlay[:, :, :3] * alpha + self.canvas * (1 - alpha)
        return mixed.round().astype(np.uint8)

    @functools.cached_property
    def fig(self) -> Any:
        """A transparent figure of matplotlib on top of the drawing."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # Slightly larger, because matplotlib truncates fractions of a pixel.
        height, width = (side + 1e-2 for side in self.canvas.shape[:2])
        fig = Figure(figsize=(width / 100, height / 100), dpi=100, frameon=False)
        FigureCanvasAgg(fig)
        return fig

    @functools.cached_property
    def ax(self) -> Any:
        """Axes of that figure, in pixels of the original image, to draw on with matplotlib."""
        ax = self.fig.add_axes([0, 0, 1, 1], xlim=(0, self.width), ylim=(self.height, 0))
        ax.axis("off")
        ax.set_autoscale_on(False)
        return ax

    def save(self, filepath: str) -> None:
        """Write the drawing to a file, in the format of its extension.

        Raises:
            OSError: it cannot be written.
        """
        ending = os.path.splitext(filepath)[1]
        try:
            done, data = cv2.imencode(ending, self.get_image()[:, :, ::-1])
        except cv2.error:
            done = False
        if not done:
            raise OSError(f"cannot write {filepath!r}: {ending!r} is not an image format; use .jpg")
        with naming_write_errors(filepath, len(data)), open(filepath, "wb") as f:
            f.write(data.tobytes())

    # -- shapes -----------------------------------------------------------------------------------

    def fill_mask(self, mask: np.ndarray, color: Color, alpha: float) -> None:
        """Color the pixels of an (H, W) mask; values between 0 and 1 are partly colored."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return
        if self.scale != 1.0:
            size = self.canvas.shape[1::-1]
            mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
            self._blend((0, 0), mask, to_rgb(color), alpha)
            return
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        self._blend((x0, y0), mask[y0:y1, x0:x1].astype(np.float32), to_rgb(color), alpha)

    def fill_polygons(self, polygons: list[np.ndarray], color: Color, alpha: float) -> None:
        """Color the inside of (N, 2) polygons; the overlap of two polygons counts as outside."""
        points = [self._to_canvas(p) for p in polygons]
        self._draw_coverage(
            points,
            1,
            lambda image, p: cv2.fillPoly(image, p, 255, cv2.LINE_AA, _SHIFT),
            color,
            alpha,
        )

    def line(
        self,
        points: np.ndarray,
        color: Color,
        width: float,
        *,
        closed: bool = False,
        alpha: float = 1.0,
        style: str = "-",
    ) -> None:
        """Draw (N, 2) points as a connected line; `style` is one of matplotlib's line styles."""
        thickness = max(round(width), 1)
        strokes = _dashed(self._to_canvas(points), closed, _dash_of(style), thickness)
        closed = closed and _dash_of(style) is None

        def draw(image: np.ndarray, fixed: list[np.ndarray]) -> None:
            cv2.polylines(image, fixed, closed, 255, thickness, cv2.LINE_AA, _SHIFT)

        self._draw_coverage(strokes, thickness + 1, draw, color, alpha)

    def rectangle(
        self, box: np.ndarray, color: Color, width: float, alpha: float = 1.0, style: str = "-"
    ) -> None:
        """Draw an XYXY box whose lines lie on whole pixels and inside the image."""
        if _dash_of(style) is not None:
            x0, y0, x1, y1 = box
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            self.line(corners, color, width, closed=True, alpha=alpha, style=style)
            return
        thickness = max(round(width), 1)
        # First and past-the-end pixels of a box whose lines are centered on its edges.
        height, width = self.canvas.shape[:2]
        out = thickness // 2
        x0, y0, x1, y1 = (np.asarray(box, dtype=float) * self.scale).round().astype(int)
        x0, y0 = min(max(x0 - out, 0), width - 1), min(max(y0 - out, 0), height - 1)
        x1, y1 = min(max(x1 + out, x0 + 1), width), min(max(y1 + out, y0 + 1), height)
        for left, top, right, bottom in (
            (x0, y0, x1, y0 + thickness),
            (x0, y1 - thickness, x1, y1),
            (x0, y0 + thickness, x0 + thickness, y1 - thickness),
            (x1 - thickness, y0 + thickness, x1, y1 - thickness),
        ):
            if right > left and bottom > top:
                ones = np.ones((bottom - top, right - left), np.float32)
                self._blend((left, top), ones, to_rgb(color), alpha)

    def circle(self, center, radius: float, color: Color, alpha: float = 1.0) -> None:
        """Draw a filled circle; the radius is in pixels of the drawing."""
        points = self._to_canvas(np.asarray([center], float))

        def draw(image: np.ndarray, fixed: list[np.ndarray]) -> None:
            size = round(radius * 2**_SHIFT)
            cv2.circle(image, tuple(map(int, fixed[0][0])), size, 255, -1, cv2.LINE_AA, _SHIFT)

        self._draw_coverage([points], round(radius) + 2, draw, color, alpha)

    # -- text -------------------------------------------------------------------------------------

    def label_size(self, text: str, font_size: float) -> tuple[int, int]:
        """Return the (width, height) of a text with its background, in pixels of the drawing."""
        height, width = _text_patch(text, max(round(font_size), 1)).shape
        pad = _padding(font_size)
        return width + 2 * pad, height + 2 * (pad // 2)

    def label(
        self,
        text: str,
        corner: tuple[float, float],
        font_size: float,
        background: Color,
        color: Color | None = None,
        alpha: float = 1.0,
        rotation: float = 0.0,
    ) -> None:
        """Write text on a filled background.

        Args:
            corner: left and top edge of the background, in pixels of the drawing.
            color: of the letters; None: black or white, whichever stands out.
            alpha: opacity of the background.
            rotation: in degrees, counter-clockwise, about the center.
        """
        fill = to_rgb(background)
        if color is None:
            color = (0.0, 0.0, 0.0) if is_light(fill) else (1.0, 1.0, 1.0)
        width, height = self.label_size(text, font_size)
        glyphs = np.zeros((height, width), np.float32)
        patch = _text_patch(text, max(round(font_size), 1))
        pad = _padding(font_size)
        glyphs[pad // 2 :, pad:][: patch.shape[0], : patch.shape[1]] = patch
        ground = np.ones_like(glyphs)
        if rotation:
            glyphs, ground = _rotated(glyphs, rotation), _rotated(ground, rotation)
        x = round(corner[0] + (width - ground.shape[1]) / 2)
        y = round(corner[1] + (height - ground.shape[0]) / 2)
        self._blend((x, y), ground, fill, alpha)
        self._blend((x, y), glyphs, to_rgb(color), 1.0)

    # -- helpers ----------------------------------------------------------------------------------

    def _to_canvas(self, points: np.ndarray) -> np.ndarray:
        """Convert continuous image coordinates to canvas pixels, whose centers are integers."""
        return np.asarray(points, dtype=float).reshape(-1, 2) * self.scale - 0.5

    def _draw_coverage(self, strokes, margin: int, draw, color: Color, alpha: float) -> None:
        """Let `draw` paint the shape in white on black, then blend in the color there."""
        strokes = [s for s in strokes if len(s) and np.isfinite(s).all()]
        if not strokes:
            return
        height, width = self.canvas.shape[:2]
        points = np.concatenate(strokes)
        x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - margin, 0)
        x1, y1 = np.ceil(points.max(axis=0)).astype(int) + margin + 1
        x1, y1 = min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            return
        coverage = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [np.round((s - (x0, y0)) * 2**_SHIFT).astype(np.int32) for s in strokes]
        draw(coverage, fixed)
        self._blend((x0, y0), coverage.astype(np.float32) / 255, to_rgb(color), alpha)

    def _blend(
        self, corner: tuple[int, int], coverage: np.ndarray, color: RGB, alpha: float
    ) -> None:
        """Blend in the color, weighted by the (h, w) coverage in [0, 1] at `corner` (x, y)."""
        x, y = corner
        height, width = self.canvas.shape[:2]
        top, left = max(-y, 0), max(-x, 0)
        coverage = coverage[top : max(height - y, 0), left : max(width - x, 0)]
        h, w = coverage.shape
        if not h or not w:
            return
        target = self.canvas[y + top : y + top + h, x + left : x + left + w]
        weight = (coverage * alpha)[..., None]
        paint = np.array(color, np.float32) * 255
        target[:] = np.rint(target + (paint - target) * weight).astype(np.uint8)


def _padding(font_size: float) -> int:
    return max(round(font_size * 0.25), 2)


@functools.lru_cache(maxsize=64)
def _font(size: int):
    """Return a scalable font: DejaVu Sans, which comes with matplotlib, or Pillow's default."""
    from PIL import ImageFont

    matplotlib = find_spec("matplotlib")
    for folder in matplotlib.submodule_search_locations if matplotlib else ():
        path = os.path.join(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if os.path.isfile(path):
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=_TEXT_CACHE)
def _text_patch(text: str, size: int) -> np.ndarray:
    """Return the (h, w) coverage in [0, 1] of a line of text; the height depends only on `size`."""
    from PIL import Image, ImageDraw

    font = _font(size)
    ascent, descent = font.getmetrics()
    width = max(round(font.getlength(text)) + 1, 1)
    image = Image.new("L", (width, ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    patch = np.asarray(image, dtype=np.float32) / 255
    patch.flags.writeable = False  # it is shared through the cache
    return patch


def _rotated(coverage: np.ndarray, degrees: float) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray((coverage * 255).astype(np.uint8))
    turned = image.rotate(degrees, resample=Image.Resampling.BICUBIC, expand=True)
    return np.asarray(turned, dtype=np.float32) / 255


def _dash_of(style: str) -> tuple[float, float] | None:
    style = _LINE_STYLE_NAMES.get(style, style)
    if style not in _DASHES:
        raise ValueError(f"unknown line style {style!r}; use one of {list(_DASHES)}")
    return _DASHES[style]


def _dashed(
    points: np.ndarray, closed: bool, dash: tuple[float, float] | None, width: int
) -> list[np.ndarray]:
    """Cut a line into the dashes to draw."""
    if dash is None:
        return [points]
    if closed:
        points = np.concatenate([points, points[:1]])
    on, off = dash[0] * width, dash[1] * width
    pieces = []
    for start, end in itertools.pairwise(points):
        length = float(np.linalg.norm(end - start))
        for begin in np.arange(0, max(length, 1e-6), on + off):
            part = np.array([begin, min(begin + on, length)])[:, None] / max(length, 1e-6)
            pieces.append(start + part * (end - start))
    return pieces
