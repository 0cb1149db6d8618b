"""Draw detections, ground truth and segmentations on images."""

import math
from collections.abc import Sequence
from enum import Enum, unique
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from d2lite.structures import BoxMode
from d2lite.utils.errors import ArgumentError
from d2lite.utils.file_io import PathManager
from d2lite.utils.image_files import open_image
from d2lite.utils.segment_colors import rgb_to_id
from d2lite.visualization.canvas import VisImage, as_rgb
from d2lite.visualization.colors import RGB, Color, change_brightness, distinct_color, to_rgb
from d2lite.visualization.label_layout import LabelLayout
from d2lite.visualization.masks import GenericMask, PanopticSegments, on_cpu

_OFF_WHITE: RGB = (1.0, 1.0, 240.0 / 255)
_BLACK: RGB = (0.0, 0.0, 0.0)
_RED: RGB = (1.0, 0.0, 0.0)
_BOX_ALPHA = 0.9
_KEYPOINT_THRESHOLD = 0.05  # minimum score of keypoints to draw
_LARGE_MASK_AREA_THRESH = 120000  # parts of a segment above this get their own label
_MIN_FONT_PIXELS = 9


@unique
class ColorMode(Enum):
    """Ways to color instances."""

    IMAGE = 0
    """Each instance has its own color; boxes without masks have one color per class."""
    SEGMENTATION = 1
    """Instances of a class have similar colors, based on `thing_colors` if available."""
    IMAGE_BW = 2
    """As IMAGE, on a picture that is gray wherever there is no mask."""


class _NoMetadata(SimpleNamespace):
    """Empty metadata, used if no metadata of a dataset is given."""

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


class Visualizer:
    """Drawing on one image. Every `draw_*` and `overlay_*` returns the drawing (`VisImage`).

    The high-level methods take outputs of a model or data of a dataset; the others draw single
    items, in coordinates of the original image. Colors are anything matplotlib accepts.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ):
        """
        Args:
            img_rgb: (H, W, 3) RGB, 0 to 255; also gray, (H, W) or (H, W, 1), and RGBA.
            metadata: that of the dataset, for class names, colors and keypoint connections; any
                object with `get(key, default)`.
            scale: size of the drawing relative to the image.
            font_size_scale: factor on the font size, which depends on the image size.
        """
        self.img = as_rgb(img_rgb)
        self.metadata = _NoMetadata() if metadata is None else metadata
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        self.keypoint_threshold = _KEYPOINT_THRESHOLD
        self._instance_mode = instance_mode
        # Font and line sizes depend on the square root of the area of the drawing.
        self._side = math.sqrt(self.output.canvas.shape[0] * self.output.canvas.shape[1])
        self._default_font_size = max(self._side / 42, _MIN_FONT_PIXELS) * font_size_scale
        self._line_width = max(self._side / 320, 1.0)
        self._labels = LabelLayout(self.output.canvas.shape[:2])
        self._num_jittered = 0

    def get_output(self) -> VisImage:
        """Return the drawing so far."""
        return self.output

    # -- outputs of a model -----------------------------------------------------------------------

    def draw_instance_predictions(self, predictions: Any, jittering: bool = True) -> VisImage:
        """Draw detections of one image.

        Args:
            predictions: `Instances` with any of `pred_boxes`, `scores`, `pred_classes`,
                `pred_masks` (N, H, W) and `pred_keypoints` (N, K, 3).
            jittering: in SEGMENTATION mode, vary the class's color from instance to instance.
        """
        fields = {k: on_cpu(v) for k, v in predictions.get_fields().items()}
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        names = self.metadata.get("thing_classes", None)
        masks = self._convert_masks(fields["pred_masks"]) if "pred_masks" in fields else None
        colors = self._instance_colors(len(predictions), classes, masks is not None, jittering)
        alpha = 0.8 if self._instance_mode == ColorMode.SEGMENTATION else 0.5
        if self._instance_mode == ColorMode.IMAGE_BW:
            covered = np.any([m.mask for m in masks], axis=0) if masks else None
            self.output.reset_image(self._create_grayscale_image(covered))
            alpha = 0.3
        return self.overlay_instances(
            masks=masks,
            boxes=fields.get("pred_boxes"),
            labels=create_text_labels(classes, fields.get("scores"), names),
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_sem_seg(
        self,
        sem_seg: Any,
        area_threshold: int | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: Color = _OFF_WHITE,
    ) -> VisImage:
        """Draw a semantic segmentation.

        Args:
            sem_seg: (H, W) class of each pixel; classes without a name in the metadata are skipped.
            area_threshold: parts of a class with fewer pixels are left out.
            draw_text: name the classes.
        """
        sem_seg = np.asarray(on_cpu(sem_seg))
        names = self.metadata.get("stuff_classes", None) or []
        labels, areas = np.unique(sem_seg, return_counts=True)
        for label in labels[np.argsort(-areas)].tolist():
            if 0 <= label < len(names):
                self.draw_binary_mask(
                    (sem_seg == label).astype(np.uint8),
                    color=self._class_color("stuff_colors", label),
                    edge_color=edge_color,
                    text=names[label] if draw_text else None,
                    alpha=alpha,
                    area_threshold=area_threshold,
                )
        return self.output

    def draw_panoptic_seg(
        self,
        panoptic_seg: Any,
        segments_info: list[dict] | None,
        area_threshold: int | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Draw a panoptic segmentation.

        Args:
            panoptic_seg: (H, W) segment id of each pixel.
            segments_info: dicts with `id`, `isthing`, `category_id` and optionally `score`. None:
                ids are category * `label_divisor` of the metadata + a number.
            area_threshold: parts of stuff with fewer pixels are left out.
        """
        pred = PanopticSegments(panoptic_seg, segments_info, self.metadata)
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._create_grayscale_image(pred.non_empty_mask()))
        names = self.metadata.get("stuff_classes", None)
        for mask, segment in pred.semantic_masks():
            category = segment["category_id"]
            self.draw_binary_mask(
                mask,
                color=self._class_color("stuff_colors", category),
                edge_color=_OFF_WHITE,
                text=create_text_labels([category], None, names)[0],
                alpha=alpha,
                area_threshold=area_threshold,
            )
        things = list(pred.instance_masks())
        if not things:
            return self.output
        masks, segments = zip(*things, strict=True)
        categories = [s["category_id"] for s in segments]
        has_scores = all("score" in s for s in segments)
        labels = create_text_labels(
            categories,
            [float(s["score"]) for s in segments] if has_scores else None,
            self.metadata.get("thing_classes", None),
            [s.get("iscrowd", 0) for s in segments],
        )
        colors = [self._jitter(self._class_color("thing_colors", c)) for c in categories]
        return self.overlay_instances(
            masks=list(masks), labels=labels, assigned_colors=colors, alpha=alpha
        )

    draw_panoptic_seg_predictions = draw_panoptic_seg  # detectron2's older name

    # -- data of a dataset -----------------------------------------------------------------------

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draw the ground truth of a dict in the standard dataset format.

        Args:
            dic: with any of `annotations`, `sem_seg` or `sem_seg_file_name`, and
                `pan_seg_file_name` with `segments_info`.
        """
        if annotations := dic.get("annotations"):
            classes = [a["category_id"] for a in annotations]
            boxes = [
                a["bbox"]
                if len(a["bbox"]) == 5
                else BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)
                for a in annotations
            ]
            masks = keypoints = None
            if all("segmentation" in a for a in annotations):
                masks = [a["segmentation"] for a in annotations]
            if all("keypoints" in a for a in annotations):
                keypoints = np.array([a["keypoints"] for a in annotations], dtype=float)
                keypoints = keypoints.reshape(len(annotations), -1, 3)
            names = self.metadata.get("thing_classes", None)
            crowds = [a.get("iscrowd", 0) for a in annotations]
            self.overlay_instances(
                boxes=np.asarray(boxes, dtype=float),
                labels=create_text_labels(classes, None, names, crowds),
                masks=masks,
                keypoints=keypoints,
                assigned_colors=self._instance_colors(
                    len(annotations), classes, masks is not None, True
                ),
            )
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            sem_seg = _read_labels(dic["sem_seg_file_name"])
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        if "pan_seg_file_name" in dic:
            ids = rgb_to_id(_read_labels(dic["pan_seg_file_name"]))
            self.draw_panoptic_seg(ids, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    # -- several objects --------------------------------------------------------------------------

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Color] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N objects, largest first, and then all labels.

        Args:
            boxes: `Boxes`, `RotatedBoxes`, or (N, 4) XYXY or (N, 5) rotated as an array.
            labels: one text per object.
            masks: anything `GenericMask` takes per object, `BitMasks`, `PolygonMasks`, (N, H, W).
            keypoints: `Keypoints` or (N, K, 3) of x, y and score.
            assigned_colors: one per object; by default, all different.
            alpha: opacity of the masks.
        """
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        keypoints = None if keypoints is None else self._convert_keypoints(keypoints)
        parts = {"boxes": boxes, "masks": masks, "keypoints": keypoints, "labels": labels}
        parts["colors"] = assigned_colors
        lengths = {name: len(part) for name, part in parts.items() if part is not None}
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"overlay_instances got arguments of different length: {lengths}")
        count = next(iter(lengths.values()), 0)
        if assigned_colors is None:
            colors = [distinct_color(i) for i in range(count)]
        else:
            colors = [to_rgb(c) for c in assigned_colors]
        if boxes is not None and boxes.shape[1] == 5:
            return self.overlay_rotated_instances(boxes, labels, colors)
        frames = self._frames(count, boxes, masks, keypoints)
        areas = np.nan_to_num((frames[:, 2] - frames[:, 0]) * (frames[:, 3] - frames[:, 1]))
        order = np.argsort(-areas, kind="stable").tolist()
        for i in order:
            if masks is not None:
                self._draw_mask(
                    masks[i], colors[i], self._change_color_brightness(colors[i], -0.3), alpha
                )
            if boxes is not None:
                self.draw_box(boxes[i], alpha=_BOX_ALPHA, edge_color=colors[i])
        for i in order if keypoints is not None else ():
            self.draw_and_connect_keypoints(keypoints[i])
        for i in order if labels is not None else ():
            if np.isfinite(frames[i]).all():
                self._draw_label(labels[i], frames[i], colors[i])
        return self.output

    def overlay_rotated_instances(
        self,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Color] | None = None,
    ) -> VisImage:
        """Draw N rotated boxes, (N, 5) of center x, center y, width, height, degrees."""
        boxes = np.zeros((0, 5)) if boxes is None else self._convert_boxes(boxes)
        colors = assigned_colors
        if colors is None:
            colors = [distinct_color(i) for i in range(len(boxes))]
        for i in np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable"):
            self.draw_rotated_box_with_label(
                boxes[i],
                alpha=_BOX_ALPHA,
                edge_color=colors[i],
                label=None if labels is None else labels[i],
            )
        return self.output

    # -- single items ------------------------------------------------------------------------------

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw one object's (K, 3) keypoints and the connections defined in the metadata.

        Persons also get a line from the nose via the middle of the shoulders to that of the hips.
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
                self.draw_line(*zip(visible[start], visible[end], strict=True), color)

        def middle(part: str) -> tuple[float, float] | None:
            pair = [visible.get(f"{side}_{part}") for side in ("left", "right")]
            return None if None in pair else tuple(np.mean(pair, axis=0))

        nose, shoulders, hips = visible.get("nose"), middle("shoulder"), middle("hip")
        for start, end in ((nose, shoulders), (shoulders, hips)):
            if start is not None and end is not None:
                self.draw_line(*zip(start, end, strict=True), _RED)
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
            position: (x, y) of the left end, center or right end of the top edge of the text,
                according to `horizontal_alignment`.
            font_size: in pixels of the drawing; by default it depends on the image size.
            rotation: in degrees, counter-clockwise.
        """
        shares = {"left": 0.0, "center": 0.5, "right": 1.0}
        if horizontal_alignment not in shares:
            raise ValueError(
                f"horizontal_alignment is {horizontal_alignment!r}; use one of {sorted(shares)}"
            )
        font_size = font_size or self._default_font_size
        color = np.maximum(to_rgb(color), 0.2)  # readable on black
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
        x, y, w, h, degrees = np.asarray(on_cpu(rotated_box), dtype=float)
        theta = math.radians(degrees)
        # Upper left, lower left, lower right, upper right, all before the rotation.
        offsets = np.array([(-w, -h), (-w, h), (w, h), (w, -h)]) / 2
        cos, sin = math.cos(theta), math.sin(theta)
        # Counter-clockwise as seen by the viewer, with y pointing down.
        corners = offsets @ np.array([[cos, -sin], [sin, cos]]) + (x, y)
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
            color: by default, one of the distinct colors.
            edge_color: of its outline; default: a darker shade of the color.
            text: written into its largest part.
            area_threshold: connected parts with fewer pixels are left out.
        """
        color = distinct_color(int(np.sum(binary_mask)) % 24) if color is None else to_rgb(color)
        mask = np.asarray(binary_mask, dtype=np.uint8)
        if area_threshold is not None and area_threshold > 1:
            count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            kept = stats[:, -1] >= area_threshold
            kept[0] = False  # the background
            mask = kept[parts].astype(np.uint8) if count > 1 else mask
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
        """Color an (H, W) mask of values in [0, 1], which are the opacity."""
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

    # -- helpers, with detectron2's names if programs override them -------------------------------

    def _create_grayscale_image(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Return the image in gray, except inside an (H, W) mask."""
        gray = np.repeat(self.img.astype(float).mean(axis=2, keepdims=True), 3, axis=2)
        if mask is not None:
            inside = np.asarray(mask, dtype=bool)
            gray[inside] = self.img[inside]
        return gray

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        """Convert boxes of any type to an (N, 4) or (N, 5) array."""
        boxes = np.asarray(on_cpu(getattr(boxes, "tensor", boxes)), dtype=float)
        return boxes.reshape(len(boxes), -1) if len(boxes) else np.zeros((0, 4))

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        """Convert masks of any type to one `GenericMask` per object."""
        masks = getattr(masks_or_polygons, "polygons", masks_or_polygons)  # PolygonMasks
        masks = getattr(masks, "tensor", masks)  # BitMasks
        if isinstance(masks, torch.Tensor):
            masks = masks.detach().cpu().numpy()
        height, width = self.output.height, self.output.width
        return [m if isinstance(m, GenericMask) else GenericMask(m, height, width) for m in masks]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        """Convert keypoints of any type to an (N, K, 3) array."""
        return np.asarray(on_cpu(getattr(keypoints, "tensor", keypoints)), dtype=float)

    def _class_color(self, key: str, label: int) -> RGB:
        """Return the color of a class in the metadata, or else a fixed one."""
        colors = self.metadata.get(key, None)
        if colors is None or label >= len(colors):
            return distinct_color(label)
        return to_rgb([c / 255 for c in colors[label]])

    def _instance_colors(
        self, count: int, classes: list[int] | None, has_masks: bool, jittering: bool
    ) -> list[RGB]:
        if classes is None or (self._instance_mode != ColorMode.SEGMENTATION and has_masks):
            return [distinct_color(i) for i in range(count)]
        if self._instance_mode != ColorMode.SEGMENTATION:
            return [distinct_color(c) for c in classes]
        colors = [self._class_color("thing_colors", c) for c in classes]
        return [self._jitter(c) for c in colors] if jittering else colors

    def _frames(self, count: int, boxes, masks, keypoints) -> np.ndarray:
        """Return the (N, 4) XYXY extent of each object; nan if it has none."""
        frames = np.full((count, 4), np.nan)
        if boxes is not None:
            frames[:] = boxes
        elif masks is not None:
            for i, mask in enumerate(masks):
                frames[i] = mask.bbox() if mask.mask.any() else np.nan
        elif keypoints is not None:
            for i, points in enumerate(keypoints):
                seen = points[points[:, 2] > self.keypoint_threshold, :2]
                if len(seen):
                    frames[i] = np.concatenate([seen.min(axis=0), seen.max(axis=0)])
        return frames

    def _change_color_brightness(self, color: Color, brightness_factor: float) -> RGB:
        """Return a lighter or darker shade of a color, see `change_brightness`."""
        return change_brightness(to_rgb(color), brightness_factor)

    def _jitter(self, color: Color) -> RGB:
        """Return a similar color: a different one each time, but the same from run to run."""
        self._num_jittered += 1
        # Not from the global random generator: drawing must not affect training.
        shift = np.random.default_rng(self._num_jittered).uniform(-0.18, 0.18, 3)
        return tuple(np.clip(np.array(to_rgb(color)) + shift, 0, 1).tolist())

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Color) -> None:
        """Label the largest connected part of a mask and all very large ones."""
        _, components, stats, _ = cv2.connectedComponentsWithStats(binary_mask, 8)
        areas = stats[1:, -1]
        if not areas.size:
            return
        large = set(np.flatnonzero(areas > _LARGE_MASK_AREA_THRESH).tolist())
        for part in sorted({int(np.argmax(areas)), *large}):
            inside = (components == part + 1).astype(np.uint8)
            depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, 0), cv2.DIST_L2, 3)
            y, x = np.unravel_index(np.argmax(depth), depth.shape)
            font_size = self._default_font_size
            size = np.array(self.output.label_size(text, font_size))
            corner = np.array([x, y]) * self.output.scale - size / 2
            corner = self._labels.claim(tuple(corner), tuple(size))
            self._write_label(
                text, corner, font_size, self._change_color_brightness(color, -0.4), alpha=0.75
            )

    def _is_overridden(self, name: str) -> bool:
        """Return whether the method `name` is overridden in a subclass, or was replaced here."""
        return getattr(getattr(self, name), "__func__", None) is not _OWN_METHODS[name]

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
        """Label the object in an XYXY frame, where the label hides the least."""
        # Smaller labels for small objects, so that these stay visible.
        height = (frame[3] - frame[1]) * self.output.scale
        factor = np.clip((height / self._side - 0.02) / 0.08 * 0.25 + 0.75, 0.75, 1.0)
        font_size = self._default_font_size
        font_size = max(font_size * factor, min(_MIN_FONT_PIXELS, font_size))
        corner = self._labels.place(
            self.output.label_size(text, font_size), frame * self.output.scale
        )
        self._write_label(text, corner, font_size, color, alpha=0.85)

    def _write_label(
        self, text: str, corner: Sequence[float], font_size: float, color: RGB, alpha: float
    ) -> None:
        """Write a label with the given upper left corner in the drawing."""
        if self._is_overridden("draw_text"):
            position = tuple(v / self.output.scale for v in corner)
            self.draw_text(
                text, position, color=color, horizontal_alignment="left", font_size=font_size
            )
        else:
            self.output.label(text, corner, font_size, color, alpha=alpha)


_OWN_METHODS = {"draw_polygon": Visualizer.draw_polygon, "draw_text": Visualizer.draw_text}


def create_text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[int] | None = None,
) -> list[str] | None:
    """Return a text for each object, such as "person 87%"; None if nothing is known."""
    labels = None
    if classes is not None:
        known = class_names is not None and len(class_names) > 0
        labels = [
            class_names[c] if known and c < len(class_names) else str(c)
            for c in (int(c) for c in classes)
        ]
    if scores is not None:
        percents = [f"{float(s) * 100:.0f}%" for s in scores]
        names = labels if labels is not None else [""] * len(percents)
        labels = [f"{n} {p}".strip() for n, p in zip(names, percents, strict=True)]
    if labels is not None and is_crowd is not None:
        labels = [n + ("|crowd" if c else "") for n, c in zip(labels, is_crowd, strict=True)]
    return labels


def _read_labels(path: str) -> np.ndarray:
    """Return the values of a label image, from any path that `PathManager` can read."""
    with PathManager.open(path, "rb") as f:
        return np.asarray(open_image(f, path))
