"""The outputs of `d2lite predict`: drawings, COCO JSON, YOLO labels, CSV."""

import csv
import json
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from d2lite.evaluation.coco_json import encode_masks, instances_to_coco_json
from d2lite.evaluation.drawing import draw_output, save_picture
from d2lite.structures import Instances, RotatedBoxes
from d2lite.utils.video_files import VideoSink
from d2lite.visualization import GenericMask, VideoVisualizer


@dataclass
class Result:
    """The detections in one image or frame."""

    image: np.ndarray  # (H, W, 3) BGR
    output: dict[
        str, Any
    ]  # of the model; "instances" on the CPU, without those below the threshold
    file_name: str  # of the source, as given
    name: str  # for files with results: the same for all frames of a video
    frame: int | None = None  # number of the frame, from 0
    fps: float = 0.0  # of a video

    @property
    def instances(self) -> Instances | None:
        """The detections; None if the model does not detect objects."""
        return self.output.get("instances")


class Output:
    """A writer of one format into a folder."""

    def __init__(self, folder: str, metadata: Any) -> None:
        """
        Args:
            folder: an existing folder.
            metadata: with names and colors of the classes.
        """
        self.folder, self.metadata = folder, metadata
        self.classes: list[str] = list(metadata.get("thing_classes") or ())

    def class_name(self, index: int) -> str:
        """Return the name of a class, or its number if it has no name."""
        return self.classes[index] if index < len(self.classes) else f"class {index}"

    def add(self, result: Result) -> None:
        """Write one result, or keep it for `close`."""
        raise NotImplementedError

    def end_source(self) -> None:
        """Finish the files of one video."""

    def close(self) -> None:
        """Finish all files."""


class DrawnOutput(Output):
    """Drawings of detections: images as NAME.jpg (or in their own format), videos as NAME.mp4."""

    _visualizer: VideoVisualizer | None = None
    _video: VideoSink | None = None

    def add(self, result: Result) -> None:
        if result.frame is None:
            path = result.file_name
            path = path.partition("?")[0] if "://" in path else path
            ending = os.path.splitext(path)[1].lower()
            ending = ending if ending and cv2.haveImageWriter(f"x{ending}") else ".jpg"
            picture = draw_output(result.image[:, :, ::-1], result.output, self.metadata, 0.0)
            save_picture(picture, os.path.join(self.folder, result.name + ending))
            return
        if self._video is None or self._visualizer is None:
            path = os.path.join(self.folder, f"{result.name}.mp4")
            self._video = VideoSink(path, result.fps)
            self._visualizer = VideoVisualizer(self.metadata)
        rgb = np.ascontiguousarray(result.image[:, :, ::-1])
        if result.instances is not None and "panoptic_seg" not in result.output:
            found = result.instances
            if isinstance(found.get_fields().get("pred_masks"), list):  # RLE dicts
                height, width = found.image_size
                masks = [GenericMask(rle, height, width).mask for rle in found.pred_masks]
                bitmaps = torch.as_tensor(np.array(masks)).reshape(-1, height, width).bool()
                fields = {**found.get_fields(), "pred_masks": bitmaps}
                found = Instances(found.image_size, **fields)
            rgb = self._visualizer.draw_instance_predictions(rgb, found).get_image()
        else:
            rgb = draw_output(rgb, result.output, self.metadata, 0.0)
        self._video.write(np.ascontiguousarray(rgb[:, :, ::-1]))

    def end_source(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = self._visualizer = None

    def close(self) -> None:
        self.end_source()


class CocoOutput(Output):
    """The file predictions.json: a COCO file whose annotations have scores."""

    def __init__(self, folder: str, metadata: Any) -> None:
        super().__init__(folder, metadata)
        ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
        self._ids = {index: dataset_id for dataset_id, index in ids.items()}
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def _id(self, index: int) -> int:
        return self._ids.get(index, index + 1)

    def add(self, result: Result) -> None:
        height, width = result.image.shape[:2]
        image_id = len(self._images) + 1
        row = {"id": image_id, "file_name": result.file_name, "width": width, "height": height}
        self._images.append(row if result.frame is None else {**row, "frame": result.frame})
        if result.instances is None:
            return
        for found in instances_to_coco_json(result.instances, image_id):
            found["category_id"] = self._id(found["category_id"])
            area = float(found["bbox"][2] * found["bbox"][3])
            number = len(self._annotations) + 1
            self._annotations.append({"id": number, **found, "area": area, "iscrowd": 0})

    def close(self) -> None:
        categories = [{"id": self._id(i), "name": name} for i, name in enumerate(self.classes)]
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }
        path = os.path.join(self.folder, "predictions.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file)


class YoloOutput(Output):
    """Files labels/NAME.txt with a line for each object, and data.yaml with the class names.

    A line has the class index and the box (center, width, height), or for models with masks the
    polygon of the object's largest part, relative to the image size.
    """

    def __init__(self, folder: str, metadata: Any) -> None:
        super().__init__(folder, metadata)
        os.makedirs(os.path.join(folder, "labels"), exist_ok=True)
        lines = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(self.classes))
        with open(os.path.join(folder, "data.yaml"), "w", encoding="utf-8") as file:
            file.write(f"names:\n{lines}")

    def add(self, result: Result) -> None:
        name = result.name if result.frame is None else f"{result.name}_{result.frame:06d}"
        found = result.instances
        lines = [] if found is None else self._lines(found)
        path = os.path.join(self.folder, "labels", f"{name}.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(lines))

    def _lines(self, found: Instances) -> list[str]:
        height, width = found.image_size
        if found.has("pred_masks"):
            masks = encode_masks(found.pred_masks)
            shapes = [polygon_in_shares(rle, height, width) for rle in masks]
        else:
            shapes = boxes_in_shares(found)
        rows = zip(found.pred_classes.tolist(), shapes, strict=True)
        return [
            f"{kind} {' '.join(f'{value:.6f}' for value in shape)}\n"
            for kind, shape in rows
            if len(shape)
        ]


def boxes_in_shares(found: Instances) -> list[list[float]]:
    """Return [center x, center y, width, height] of each box, relative to the image size."""
    height, width = found.image_size
    boxes = _corners(found)
    size = boxes[:, 2:] - boxes[:, :2]
    rows = torch.cat([boxes[:, :2] + size / 2, size], dim=1)
    return (rows / rows.new_tensor([width, height, width, height])).tolist()


def polygon_in_shares(rle: dict, height: int, width: int) -> list[float]:
    """Return x, y, x, y, ... of the largest part of a mask, relative to the image size.

    The list is empty for an empty mask.
    """
    polygons = GenericMask(rle, height, width).polygons
    if not polygons:
        return []
    largest = max(polygons, key=lambda p: cv2.contourArea(p.reshape(-1, 2).astype(np.float32)))
    return (largest.reshape(-1, 2) / [width, height]).clip(0, 1).reshape(-1).tolist()


class CsvOutput(Output):
    """The file predictions.csv: file, frame, class, score, and corners of the box in pixels."""

    def __init__(self, folder: str, metadata: Any) -> None:
        super().__init__(folder, metadata)
        path = os.path.join(folder, "predictions.csv")
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115  until close()
        self._rows = csv.writer(self._file)
        self._rows.writerow(["file", "frame", "class", "score", "x0", "y0", "x1", "y1"])

    def add(self, result: Result) -> None:
        found = result.instances
        if found is None:
            return
        frame = "" if result.frame is None else result.frame
        for kind, score, box in zip(
            found.pred_classes.tolist(), found.scores.tolist(), _corners(found).tolist(),
            strict=True,
        ):  # fmt: skip
            corners = [f"{value:.2f}" for value in box]
            name = self.class_name(kind)
            self._rows.writerow([result.file_name, frame, name, f"{score:.4f}", *corners])

    def close(self) -> None:
        self._file.close()


def _corners(found: Instances) -> torch.Tensor:
    """Return the (N, 4) XYXY boxes; raises ValueError for rotated boxes."""
    if isinstance(found.pred_boxes, RotatedBoxes):  # a subclass of Boxes
        raise ValueError("YOLO labels and CSV are for upright boxes; use --save drawn or coco")
    return found.pred_boxes.tensor


OUTPUTS: dict[str, type[Output]] = {
    "drawn": DrawnOutput,
    "coco": CocoOutput,
    "yolo": YoloOutput,
    "csv": CsvOutput,
}
