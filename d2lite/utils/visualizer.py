"""Draw detections, ground truth and segmentations on images."""

from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import numpy as np
import torch

from d2lite.utils.errors import ArgumentError

from .canvas import VisImage
from .colors import RGB, Color, distinct_color, to_rgb
from .file_io import PathManager
from .generic_mask import GenericMask
from .image_files import open_image
from .painter import Painter, on_cpu
from .panoptic_segments import PanopticSegments

__all__ = ["ColorMode", "VisImage", "Visualizer", "create_text_labels"]

_OFF_WHITE = (1.0, 1.0, 240.0 / 255)
_BOX_ALPHA = 0.9


@unique
class ColorMode(Enum):
    """How instances are colored."""

    IMAGE = 0
    """Each instance in a color of its own; boxes without masks have one color per class."""
    SEGMENTATION = 1
    """Instances of one class alike, in the class's color (`thing_colors`) where it has one."""
    IMAGE_BW = 2
    """As IMAGE, on a picture that is gray wherever there is no mask."""


class Visualizer(Painter):
    """Draws on one image. Every `draw_*` and `overlay_*` returns the drawing (`VisImage`).

    The high-level methods take what the model gives or what a dataset holds; the others draw
    single things, in coordinates of the original image. Colors are anything matplotlib accepts.
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
            metadata: the dataset's, for class names, colors and keypoint connections.
            scale: size of the drawing over that of the image.
            font_size_scale: factor on the font size, which otherwise follows the image's size.
        """
        super().__init__(img_rgb, metadata, scale, font_size_scale)
        self._instance_mode = instance_mode

    # -- what a model gives -----------------------------------------------------------------------

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
            sem_seg: (H, W) class of each pixel; classes that the metadata does not name are left.
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
        for mask, segment in pred.semantic_masks():
            category = segment["category_id"]
            self.draw_binary_mask(
                mask,
                color=self._class_color("stuff_colors", category),
                edge_color=_OFF_WHITE,
                text=self.metadata.stuff_classes[category],
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

    # -- what a dataset holds --------------------------------------------------------------------

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draw the ground truth of a dict in the standard dataset format.

        Args:
            dic: with any of `annotations`, `sem_seg` or `sem_seg_file_name`, and
                `pan_seg_file_name` with `segments_info`.
        """
        if dic.get("annotations"):
            self._draw_annotations(dic["annotations"])
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            sem_seg = _read_image(dic["sem_seg_file_name"])
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        if "pan_seg_file_name" in dic:
            rgb = _read_image(dic["pan_seg_file_name"]).astype(np.int64)
            ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
            self.draw_panoptic_seg(ids, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    def _draw_annotations(self, annotations: list[dict]) -> None:
        from d2lite.structures import BoxMode

        has_masks = all("segmentation" in a for a in annotations)
        has_keypoints = all("keypoints" in a for a in annotations)
        boxes = [
            a["bbox"]
            if len(a["bbox"]) == 5
            else BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in annotations
        ]
        classes = [a["category_id"] for a in annotations]
        self.overlay_instances(
            boxes=np.asarray(boxes, dtype=float),
            labels=create_text_labels(
                classes,
                None,
                self.metadata.get("thing_classes", None),
                [a.get("iscrowd", 0) for a in annotations],
            ),
            masks=[a["segmentation"] for a in annotations] if has_masks else None,
            keypoints=np.array([a["keypoints"] for a in annotations], dtype=float).reshape(
                len(annotations), -1, 3
            )
            if has_keypoints
            else None,
            assigned_colors=self._instance_colors(len(annotations), classes, has_masks, True),
        )

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
        """Draw N objects, the large ones first and all labels last.

        Args:
            boxes: `Boxes`, `RotatedBoxes`, or (N, 4) XYXY or (N, 5) rotated as an array.
            labels: one text per object.
            masks: anything `GenericMask` takes per object, `BitMasks`, `PolygonMasks`, (N, H, W).
            keypoints: `Keypoints` or (N, K, 3) of x, y and score.
            assigned_colors: one per object; by default all are different.
            alpha: opacity of the masks.
        """
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        keypoints = None if keypoints is None else self._convert_keypoints(keypoints)
        count = _common_length(
            boxes=boxes, masks=masks, keypoints=keypoints, labels=labels, colors=assigned_colors
        )
        colors = [distinct_color(i) for i in range(count)] if assigned_colors is None else None
        colors = colors or [to_rgb(c) for c in assigned_colors or ()]
        if boxes is not None and boxes.shape[1] == 5:
            return self.overlay_rotated_instances(boxes, labels, colors)
        frames = self._frames(count, boxes, masks, keypoints)
        order = _largest_first(frames)
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
        colors = assigned_colors or [distinct_color(i) for i in range(len(boxes))]
        for i in np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable"):
            self.draw_rotated_box_with_label(
                boxes[i],
                alpha=_BOX_ALPHA,
                edge_color=colors[i],
                label=None if labels is None else labels[i],
            )
        return self.output

    # -- helpers, under detectron2's names where programs override them ---------------------------

    def _create_grayscale_image(self, mask: np.ndarray | None = None) -> np.ndarray:
        """The image in gray, with its colors kept inside an (H, W) mask."""
        gray = np.repeat(self.img.astype(float).mean(axis=2, keepdims=True), 3, axis=2)
        if mask is not None:
            inside = np.asarray(mask, dtype=bool)
            gray[inside] = self.img[inside]
        return gray

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        """(N, 4) or (N, 5) array of anything that holds boxes."""
        boxes = np.asarray(on_cpu(getattr(boxes, "tensor", boxes)), dtype=float)
        return boxes.reshape(len(boxes), -1) if len(boxes) else np.zeros((0, 4))

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        """One `GenericMask` per object, of anything that holds masks."""
        masks = getattr(masks_or_polygons, "polygons", masks_or_polygons)  # PolygonMasks
        masks = getattr(masks, "tensor", masks)  # BitMasks
        if isinstance(masks, torch.Tensor):
            masks = masks.detach().cpu().numpy()
        height, width = self.output.height, self.output.width
        return [m if isinstance(m, GenericMask) else GenericMask(m, height, width) for m in masks]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        """(N, K, 3) array of anything that holds keypoints."""
        return np.asarray(on_cpu(getattr(keypoints, "tensor", keypoints)), dtype=float)

    def _class_color(self, key: str, label: int) -> RGB:
        """The metadata's color of a class, else a fixed one."""
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
        """(N, 4) XYXY extent of each object; nan where it has none."""
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


def create_text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[int] | None = None,
) -> list[str] | None:
    """What to write beside each object, such as "person 87%"; None when nothing is known."""
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


def _common_length(**parts: Any) -> int:
    """The length that all given parts share."""
    lengths = {name: len(part) for name, part in parts.items() if part is not None}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(f"overlay_instances got parts of different length: {lengths}")
    return next(iter(lengths.values()), 0)


def _largest_first(frames: np.ndarray) -> list[int]:
    areas = np.nan_to_num((frames[:, 2] - frames[:, 0]) * (frames[:, 3] - frames[:, 1]))
    return np.argsort(-areas, kind="stable").tolist()


def _read_image(path: str) -> np.ndarray:
    """A label image from a file, or from a dataset that draws its own (`scheme://...`)."""
    from d2lite.data.image_schemes import find_image_reader

    reader = find_image_reader(path)
    if reader is not None:
        return np.asarray(reader(path))
    with PathManager.open(path, "rb") as f:
        return np.asarray(open_image(f, path))
