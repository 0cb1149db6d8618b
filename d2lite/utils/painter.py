"""Draw single things on an image, in sizes that follow the image's."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from .canvas import VisImage, as_rgb
from .colors import RGB, Color, change_brightness, distinct_color, to_rgb
from .generic_mask import GenericMask
from .label_layout import LabelLayout

_LARGE_MASK_AREA_THRESH = 120000  # parts of a segment above this get a label of their own
_BLACK: RGB = (0.0, 0.0, 0.0)
_RED: RGB = (1.0, 0.0, 0.0)
_KEYPOINT_THRESHOLD = 0.05  # least score of a keypoint that is drawn
_MIN_FONT_PIXELS = 9


class Painter:
    """The part of `Visualizer` that draws one thing at a time.

    Coordinates are those of the original image; every method returns the drawing.
    """

    def __init__(self, img_rgb: np.ndarray, metadata: Any, scale: float, font_size_scale: float):
        """The arguments are those of `Visualizer`."""
        self.img = as_rgb(img_rgb)
        if metadata is None:
            from d2lite.data.catalog import MetadataCatalog

            metadata = MetadataCatalog.get("__nonexist__")
        self.metadata = metadata
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        self.keypoint_threshold = _KEYPOINT_THRESHOLD
        side = math.sqrt(self.output.canvas.shape[0] * self.output.canvas.shape[1])
        self._default_font_size = max(side / 42, _MIN_FONT_PIXELS) * font_size_scale
        self._line_width = max(side / 320, 1.0)
        self._labels = LabelLayout(self.output.canvas.shape[:2])

    def get_output(self) -> VisImage:
        """The drawing so far."""
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw one object's (K, 3) keypoints and the lines between them that the metadata names.

        Persons also get lines from the nose to the middle of the shoulders and on to the hips.
        """
        names = self.metadata.get("keypoint_names", None)
        visible: dict[str, tuple[float, float]] = {}
        for index, (x, y, score) in enumerate(np.asarray(on_cpu(keypoints), dtype=float)):
            if score > self.keypoint_threshold:
                self.draw_circle((x, y), color=_RED)
                if names is not None:
                    visible[names[index]] = (x, y)
        for start, end, color in self.metadata.get("keypoint_connection_rules", None) or ():
            if start in visible and end in visible:
                color = tuple(c / 255 for c in color) if not isinstance(color, str) else color
                self._connect(visible[start], visible[end], color)
        self._connect_body(visible)
        return self.output

    def draw_text(
        self,
        text: str,
        position: tuple[float, float],
        *,
        font_size: float | None = None,
        color: Color = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write text on a dark background.

        Args:
            position: (x, y) of its top; `horizontal_alignment` ("left", "center" or "right") says
                which point of the top.
            font_size: in pixels of the drawing; default: by the size of the image.
            rotation: in degrees, counter-clockwise.
        """
        shares = {"left": 0.0, "center": 0.5, "right": 1.0}
        if horizontal_alignment not in shares:
            raise ValueError(
                f"horizontal_alignment is {horizontal_alignment!r}; use one of {sorted(shares)}"
            )
        font_size = font_size or self._default_font_size
        color = np.maximum(to_rgb(color), 0.2)  # stays readable on black
        color[np.argmax(color)] = max(0.8, float(np.max(color)))
        x, y = (v * self.output.scale for v in position)
        x -= shares[horizontal_alignment] * self.output.label_size(text, font_size)[0]
        self.output.label(
            text, (x, y), font_size, _BLACK, color=tuple(color), alpha=0.75, rotation=rotation
        )
        return self.output

    def draw_box(
        self, box_coord: Any, alpha: float = 0.5, edge_color: Color = "g", line_style: str = "-"
    ) -> VisImage:
        """Draw one XYXY box; `line_style` is one of matplotlib's."""
        box = np.asarray(on_cpu(box_coord), dtype=float)
        if np.isfinite(box).all():
            self.output.rectangle(box, edge_color, self._line_width, alpha, line_style)
        return self.output

    def draw_rotated_box_with_label(
        self,
        rotated_box: Any,
        alpha: float = 0.5,
        edge_color: Color = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw one box of center x, center y, width, height and degrees (counter-clockwise).

        The box's upper edge, before the rotation, is drawn dashed.
        """
        corners = _rotated_corners(np.asarray(on_cpu(rotated_box), dtype=float))
        line = {"color": edge_color, "width": self._line_width, "alpha": alpha}
        self.output.line(corners, style=line_style, **line)
        self.output.line(corners[[3, 0]], style="--", **line)
        if label is not None:
            frame = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            self._draw_label(label, frame, to_rgb(edge_color))
        return self.output

    def draw_circle(
        self, circle_coord: Sequence[float], color: Color, radius: float = 3
    ) -> VisImage:
        """Draw a filled circle; its radius grows with the line width of the drawing."""
        self.output.circle(circle_coord, radius * max(self._line_width / 2, 0.7), color)
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Color,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points."""
        points = np.stack([np.asarray(x_data, float), np.asarray(y_data, float)], axis=1)
        width = self._line_width if linewidth is None else linewidth
        self.output.line(points, color, width, style=linestyle)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: np.ndarray,
        color: Color | None = None,
        *,
        edge_color: Color | None = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int | None = 10,
    ) -> VisImage:
        """Color an (H, W) mask of 0 and 1.

        Args:
            color: default: a random one, of those that differ well.
            edge_color: of its outline; default: a darker shade of the color.
            text: written into its largest part.
            area_threshold: connected parts with fewer pixels are left out.
        """
        color = distinct_color(int(np.sum(binary_mask)) % 24) if color is None else to_rgb(color)
        mask = _without_small_parts(np.asarray(binary_mask, dtype=np.uint8), area_threshold or 0)
        if not mask.any():
            return self.output
        generic = GenericMask(mask, self.output.height, self.output.width)
        edge = edge_color or self._change_color_brightness(color, -0.3)
        self._draw_mask(generic, color, edge, alpha)
        if text is not None:
            self._draw_text_in_mask(mask, text, color)
        return self.output

    def draw_soft_mask(
        self,
        soft_mask: np.ndarray,
        color: Color | None = None,
        *,
        text: str | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Color an (H, W) mask of values in [0, 1], as strongly as its values say."""
        soft_mask = np.asarray(soft_mask, dtype=np.float32)
        color = distinct_color(0) if color is None else to_rgb(color)
        self.output.fill_mask(soft_mask, color, alpha)
        if text is not None:
            self._draw_text_in_mask((soft_mask > 0.5).astype(np.uint8), text, color)
        return self.output

    def draw_polygon(
        self,
        segment: np.ndarray,
        color: Color,
        edge_color: Color | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Fill one polygon of (N, 2) points and draw its outline."""
        points = np.asarray(segment, dtype=float).reshape(-1, 2)
        color = to_rgb(color)
        self.output.fill_polygons([points], color, alpha)
        edge = edge_color
        if edge_color is None and alpha <= 0.8:
            edge = self._change_color_brightness(color, -0.3)
        if edge is not None:
            self.output.line(points, edge, max(self._line_width / 2, 1), closed=True)
        return self.output

    def _change_color_brightness(self, color: Color, brightness_factor: float) -> RGB:
        """Return a lighter or darker shade of a color, see `change_brightness`."""
        return change_brightness(to_rgb(color), brightness_factor)

    def _jitter(self, color: Color) -> RGB:
        """A color near by; always another one, but the same from run to run."""
        self._num_jittered = getattr(self, "_num_jittered", 0) + 1
        # Not from the global random numbers: drawing must not change how training goes on.
        shift = np.random.default_rng(self._num_jittered).uniform(-0.18, 0.18, 3)
        return tuple(np.clip(np.array(to_rgb(color)) + shift, 0, 1).tolist())

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Color) -> None:
        """Label the largest connected part of a mask, and all very large ones, where it is wide."""
        _, components, stats, _ = cv2.connectedComponentsWithStats(binary_mask, 8)
        areas = stats[1:, -1]
        if not areas.size:
            return
        large = set(np.flatnonzero(areas > _LARGE_MASK_AREA_THRESH).tolist())
        for part in sorted({int(np.argmax(areas)), *large}):
            inside = (components == part + 1).astype(np.uint8)
            depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, 0), cv2.DIST_L2, 3)
            y, x = np.unravel_index(np.argmax(depth), depth.shape)
            center = np.array([x, y]) * self.output.scale
            self._place_label(text, [center], self._change_color_brightness(color, -0.4))

    def _is_overridden(self, name: str) -> bool:
        return getattr(getattr(self, name), "__func__", None) is not getattr(Painter, name)

    def _draw_mask(self, mask: GenericMask, color: RGB, edge: Color, alpha: float) -> None:
        if self._is_overridden("draw_polygon"):
            for polygon in mask.polygons:
                self.draw_polygon(polygon.reshape(-1, 2), color, edge_color=edge, alpha=alpha)
            return
        self.output.fill_mask(mask.mask, color, alpha)
        for polygon in mask.polygons:
            points = polygon.reshape(-1, 2)
            self.output.line(points, edge, max(self._line_width / 2, 1), closed=True, alpha=0.8)

    def _draw_label(self, text: str, frame: np.ndarray, color: RGB) -> None:
        """Label the object in an XYXY frame where the label hides least."""
        size = self.output.label_size(text, self._label_font_size(frame))
        corner = self._labels.place(size, frame * self.output.scale)
        self._write_label(text, corner, self._label_font_size(frame), color, alpha=0.85)

    def _label_font_size(self, frame: np.ndarray) -> float:
        """Smaller for labels of small objects, so that they do not bury these."""
        height = (frame[3] - frame[1]) * self.output.scale
        side = math.sqrt(self.output.canvas.shape[0] * self.output.canvas.shape[1])
        factor = np.clip((height / side - 0.02) / 0.08 * 0.25 + 0.75, 0.75, 1.0)
        return max(self._default_font_size * factor, min(_MIN_FONT_PIXELS, self._default_font_size))

    def _place_label(self, text: str, centers: list[np.ndarray], color: RGB) -> None:
        size = np.array(self.output.label_size(text, self._default_font_size))
        for center in centers:
            corner = self._labels.claim(tuple(center - size / 2), tuple(size))
            self._write_label(text, corner, self._default_font_size, color, alpha=0.75)

    def _write_label(
        self, text: str, corner: Sequence[float], font_size: float, color: RGB, alpha: float
    ) -> None:
        """Write a label whose upper left corner in the drawing is given."""
        if self._is_overridden("draw_text"):
            position = tuple(v / self.output.scale for v in corner)
            self.draw_text(
                text, position, color=color, horizontal_alignment="left", font_size=font_size
            )
        else:
            self.output.label(text, corner, font_size, color, alpha=alpha)

    def _connect(self, start, end, color: Color) -> None:
        self.draw_line([start[0], end[0]], [start[1], end[1]], color)

    def _connect_body(self, visible: dict[str, tuple[float, float]]) -> None:
        def middle(part: str):
            pair = [visible.get(f"{side}_{part}") for side in ("left", "right")]
            return None if None in pair else np.mean(pair, axis=0)

        nose, shoulders, hips = visible.get("nose"), middle("shoulder"), middle("hip")
        for start, end in ((nose, shoulders), (shoulders, hips)):
            if start is not None and end is not None:
                self._connect(start, end, _RED)


def _rotated_corners(box: np.ndarray) -> np.ndarray:
    """(4, 2) corners: upper left, lower left, lower right, upper right, all before rotation."""
    x, y, w, h, degrees = box
    theta = math.radians(degrees)
    offsets = np.array([(-w, -h), (-w, h), (w, h), (w, -h)]) / 2
    cos, sin = math.cos(theta), math.sin(theta)
    # Counter-clockwise as seen, with y pointing down.
    return offsets @ np.array([[cos, -sin], [sin, cos]]) + (x, y)


def _without_small_parts(mask: np.ndarray, area_threshold: int) -> np.ndarray:
    if area_threshold <= 1:
        return mask
    count, components, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    kept = stats[:, -1] >= area_threshold
    kept[0] = False  # the background
    return kept[components].astype(np.uint8) if count > 1 else mask


def on_cpu(value: Any) -> Any:
    """A tensor, or a structure of tensors, on the CPU and without gradients; else the value."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return value.to("cpu") if hasattr(value, "to") else value
