"""Draw predictions on the frames of a video, with colors that stay with their objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_util

from .canvas import VisImage
from .colors import RGB, distinct_color
from .painter import on_cpu
from .panoptic_segments import PanopticSegments
from .visualizer import ColorMode, Visualizer, create_text_labels

__all__ = ["VideoVisualizer"]

_MATCH_IOU = {"mask": 0.5, "box": 0.6}  # least overlap of an object in successive frames
_FRAMES_TO_LIVE = 8  # a color is kept for an object that is missed in fewer frames than these


@dataclass
class _Tracked:
    """An object of the last frames, and the color it has."""

    label: int
    box: np.ndarray | None  # XYXY
    rle: dict | None
    color: RGB | None = None  # until it is decided
    time_to_live: int = _FRAMES_TO_LIVE


class VideoVisualizer:
    """Draws frame by frame; objects are followed by class and overlap, to keep their colors."""

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE):
        """
        Args:
            metadata: the data set's.
            instance_mode: IMAGE or IMAGE_BW; colors of classes do not depend on the frame.
        """
        if instance_mode not in (ColorMode.IMAGE, ColorMode.IMAGE_BW):
            raise ValueError(f"VideoVisualizer has the modes IMAGE and IMAGE_BW: {instance_mode}")
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._tracked: list[_Tracked] = []
        self._num_colors = 0

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Any) -> VisImage:
        """Draw detections; with `ID` (N,) in the predictions, those decide about the colors.

        Args:
            frame: (H, W, 3) RGB.
            predictions: Instances as for `Visualizer`; `COLOR` gives the colors themselves.
        """
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        if len(predictions) == 0:
            self._forget([])
            return visualizer.output
        fields = {k: on_cpu(v) for k, v in predictions.get_fields().items()}
        count = len(predictions)
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        masks = fields.get("pred_masks")
        boxes = fields.get("pred_boxes")
        if "COLOR" in fields:
            colors = [tuple(color) for color in fields["COLOR"]]
        elif "ID" in fields:
            colors = [distinct_color(int(i)) for i in fields["ID"]]
        else:
            box_rows = None if boxes is None else boxes.tensor.numpy()
            colors = self._follow(classes or [0] * count, box_rows, masks)
        if self._instance_mode == ColorMode.IMAGE_BW:
            covered = None if masks is None else torch.as_tensor(masks).any(dim=0).numpy()
            visualizer.output.reset_image(visualizer._create_grayscale_image(covered))
        return visualizer.overlay_instances(
            boxes=None if masks is not None else boxes,  # in a film, boxes around masks distract
            masks=masks,
            labels=create_text_labels(
                classes, fields.get("scores"), self.metadata.get("thing_classes", None)
            ),
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=0.3 if self._instance_mode == ColorMode.IMAGE_BW else 0.5,
        )

    def draw_sem_seg(
        self, frame: np.ndarray, sem_seg: Any, area_threshold: int | None = None
    ) -> VisImage:
        """Draw a semantic segmentation, (H, W) class of each pixel."""
        visualizer = Visualizer(frame, self.metadata)
        return visualizer.draw_sem_seg(sem_seg, area_threshold=area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: np.ndarray,
        panoptic_seg: Any,
        segments_info: list[dict],
        area_threshold: int | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw a panoptic segmentation; the arguments are those of `Visualizer`'s method."""
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        segments = PanopticSegments(panoptic_seg, segments_info, self.metadata)
        if self._instance_mode == ColorMode.IMAGE_BW:
            gray = visualizer._create_grayscale_image(segments.non_empty_mask())
            visualizer.output.reset_image(gray)
        stuff = [info for _, info in segments.semantic_masks()]
        visualizer.draw_panoptic_seg(panoptic_seg, stuff, area_threshold, alpha)
        things = list(segments.instance_masks())
        if not things:
            self._forget([])
            return visualizer.output
        masks, infos = zip(*things, strict=True)
        classes = [info["category_id"] for info in infos]
        return visualizer.overlay_instances(
            masks=list(masks),
            labels=create_text_labels(classes, None, self.metadata.get("thing_classes", None)),
            assigned_colors=self._follow(classes, None, np.stack(masks)),
            alpha=alpha,
        )

    def _follow(self, classes: list[int], boxes: np.ndarray | None, masks: Any) -> list[RGB]:
        """A color for every object: that of the object it continues, else a new one."""
        rles = [None] * len(classes)
        if masks is not None:
            bits = np.asarray(masks).astype(np.uint8)
            rles = mask_util.encode(np.asfortranarray(bits.transpose(1, 2, 0)))
        box_rows = [None] * len(classes) if boxes is None else list(boxes)
        rows = zip(classes, box_rows, rles, strict=True)
        now = [_Tracked(label, box, rle) for label, box, rle in rows]
        self._inherit_colors(now, _overlap(self._tracked, now))
        for thing in now:
            if thing.color is None:
                thing.color = distinct_color(self._num_colors)
                self._num_colors += 1
        return [thing.color for thing in now]

    def _inherit_colors(self, now: list[_Tracked], overlap: np.ndarray) -> None:
        """Pair old and new objects, those that overlap most first, and remember the new ones."""
        continued = set()
        for flat in np.argsort(-overlap, axis=None):
            old, new = np.unravel_index(flat, overlap.shape)
            if overlap[old, new] <= 0:
                break
            if old not in continued and now[new].color is None:
                now[new].color = self._tracked[old].color
                continued.add(int(old))
        missed = [thing for i, thing in enumerate(self._tracked) if i not in continued]
        self._tracked = missed
        self._forget(now)

    def _forget(self, now: list[_Tracked]) -> None:
        """Count down what the current frame does not have."""
        for thing in self._tracked:
            thing.time_to_live -= 1
        self._tracked = now + [thing for thing in self._tracked if thing.time_to_live > 0]


def _overlap(old: list[_Tracked], new: list[_Tracked]) -> np.ndarray:
    """(old, new) IoU; 0 where classes differ or it is too small for a match."""
    overlap = np.zeros((len(old), len(new)))
    if not old or not new:
        return overlap
    kind = "mask" if new[0].rle is not None else "box"
    shapes = [[_shape(thing, kind) for thing in things] for things in (old, new)]
    if any(shape is None for things in shapes for shape in things):
        return overlap
    if kind == "box":
        shapes = [np.stack(things) for things in shapes]
    overlap = mask_util.iou(shapes[0], shapes[1], [0] * len(new))
    same_class = np.equal.outer([t.label for t in old], [t.label for t in new])
    return np.where(same_class & (overlap > _MATCH_IOU[kind]), overlap, 0.0)


def _shape(thing: _Tracked, kind: str) -> Any:
    if kind == "mask":
        return thing.rle
    if thing.box is None:
        return None
    x0, y0, x1, y1 = thing.box[:4].astype(float)
    return np.array([x0, y0, x1 - x0, y1 - y0])
