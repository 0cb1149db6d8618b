"""Draw predictions on the frames of a video, with colors that stay with their objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_util

from d2lite.utils.errors import ArgumentError
from d2lite.visualization.canvas import VisImage
from d2lite.visualization.colors import RGB, distinct_color
from d2lite.visualization.masks import PanopticSegments, on_cpu
from d2lite.visualization.visualizer import ColorMode, Visualizer, create_text_labels

_MATCH_IOU = {"mask": 0.5, "box": 0.6}  # minimum overlap of an object in successive frames
_FRAMES_TO_LIVE = 8  # a color is kept until its object is missing in this many frames


@dataclass
class _DetectedInstance:
    """An object of recent frames, and its color."""

    label: int
    bbox: np.ndarray | None  # XYXY
    mask_rle: dict | None
    color: RGB | None  # None until it is decided
    ttl: int  # for how many more frames it is remembered if it is not detected


class VideoVisualizer:
    """Drawing of successive frames, in which objects matched by class and overlap keep colors."""

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE):
        """
        Args:
            metadata: that of the dataset.
            instance_mode: IMAGE or IMAGE_BW.
        """
        if instance_mode not in (ColorMode.IMAGE, ColorMode.IMAGE_BW):
            raise ArgumentError(
                f"VideoVisualizer supports the modes IMAGE and IMAGE_BW, not {instance_mode}"
            )
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._old_instances: list[_DetectedInstance] = []
        self._num_colors = 0

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Any) -> VisImage:
        """Draw detections; if the predictions have a field `ID`, (N,), it determines the colors.

        Args:
            frame: (H, W, 3) RGB.
            predictions: Instances as for `Visualizer`; a field `COLOR` sets the colors directly.
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
            colors = self._assign_colors_by_id(predictions)
        else:
            box_rows = None if boxes is None else boxes.tensor.numpy()
            colors = self._follow(classes or [0] * count, box_rows, masks)
        if self._instance_mode == ColorMode.IMAGE_BW:
            covered = None if masks is None else torch.as_tensor(masks).any(dim=0).numpy()
            visualizer.output.reset_image(visualizer._create_grayscale_image(covered))
        return visualizer.overlay_instances(
            boxes=None if masks is not None else boxes,  # in a video, boxes around masks distract
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
        """Return a color for every object: that of the old object it matches, else a new one."""
        rles = [None] * len(classes)
        if masks is not None:
            bits = np.asarray(masks).astype(np.uint8)
            rles = mask_util.encode(np.asfortranarray(bits.transpose(1, 2, 0)))
        box_rows = [None] * len(classes) if boxes is None else list(boxes)
        return self._assign_colors(
            [
                _DetectedInstance(label, box, rle, color=None, ttl=_FRAMES_TO_LIVE)
                for label, box, rle in zip(classes, box_rows, rles, strict=True)
            ]
        )

    def _assign_colors(self, instances: list[_DetectedInstance]) -> list[RGB]:
        """Color the objects of a frame, in place, and remember them.

        Pairs of an old and a new object are matched in order of their overlap, largest first.
        """
        continued = set()
        overlap = _overlap(self._old_instances, instances)
        for flat in np.argsort(-overlap, axis=None):
            old, new = np.unravel_index(flat, overlap.shape)
            if overlap[old, new] <= 0:
                break
            if old not in continued and instances[new].color is None:
                instances[new].color = self._old_instances[old].color
                continued.add(int(old))
        for instance in instances:
            if instance.color is None:
                instance.color = distinct_color(self._num_colors)
                self._num_colors += 1
        self._old_instances = [x for i, x in enumerate(self._old_instances) if i not in continued]
        self._forget(instances)
        return [instance.color for instance in instances]

    def _assign_colors_by_id(self, instances: Any) -> list[RGB]:
        """Return the colors for the `ID` of tracked Instances."""
        return [distinct_color(int(number)) for number in instances.ID]

    def _forget(self, now: list[_DetectedInstance]) -> None:
        """Remember the objects of this frame, and forget those that were missing for too long."""
        for instance in self._old_instances:
            instance.ttl -= 1
        self._old_instances = now + [x for x in self._old_instances if x.ttl > 0]


def _overlap(old: list[_DetectedInstance], new: list[_DetectedInstance]) -> np.ndarray:
    """Return the (old, new) IoU; 0 where classes differ or the IoU is too small for a match."""
    overlap = np.zeros((len(old), len(new)))
    if not old or not new:
        return overlap
    kind = "mask" if new[0].mask_rle is not None else "box"
    shapes = [[_shape(x, kind) for x in instances] for instances in (old, new)]
    if any(shape is None for instances in shapes for shape in instances):
        return overlap
    if kind == "box":
        shapes = [np.stack(instances) for instances in shapes]
    overlap = mask_util.iou(shapes[0], shapes[1], [0] * len(new))
    same_class = np.equal.outer([x.label for x in old], [x.label for x in new])
    return np.where(same_class & (overlap > _MATCH_IOU[kind]), overlap, 0.0)


def _shape(instance: _DetectedInstance, kind: str) -> Any:
    if kind == "mask":
        return instance.mask_rle
    if instance.bbox is None:
        return None
    x0, y0, x1, y1 = np.asarray(instance.bbox, dtype=float)[:4]
    return np.array([x0, y0, x1 - x0, y1 - y0])
