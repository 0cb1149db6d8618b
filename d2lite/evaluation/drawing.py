"""Pictures of detections next to the ground truth, drawn during an evaluation."""

import logging
import os
from typing import Any

import numpy as np

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog, file_stem
from d2lite.data.detection_utils import read_image
from d2lite.evaluation.evaluator import DatasetEvaluator
from d2lite.evaluation.result_files import going_on_without
from d2lite.utils import comm
from d2lite.utils.events import log_image
from d2lite.utils.file_io import PathManager
from d2lite.visualization import VisImage, Visualizer

logger = logging.getLogger(__name__)

FOLDER = "visualizations"
NUM_PROPOSALS = 20  # drawn per image if the model only returns proposals


class DrawDetections(DatasetEvaluator):
    """Drawing of detections (left) and ground truth (right) of the first images of a dataset.

    The pictures go to OUTPUT_DIR/visualizations and into the event storage, if one is open. Only
    the main process draws; no metrics are reported.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        num_images: int,
        score_thresh: float = 0.5,
        scale: float = 1.0,
        max_value_16_bit: int | None = None,
    ):
        """
        Args:
            dataset_name: name or URI.
            output_dir: folder in which `visualizations` is created.
            num_images: number of images to draw, from the start of the dataset.
            score_thresh: minimum score of detections to draw.
            scale: size of the pictures relative to the images.
            max_value_16_bit: see `read_image`.
        """
        self._max_value_16_bit = max_value_16_bit
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._folder = os.path.join(output_dir, FOLDER)
        self._num_images = num_images
        self._score_thresh = score_thresh
        self._scale = scale
        self._truth: dict[str, dict] | None = None  # by file name, read when first needed
        self.reset()

    def reset(self) -> None:
        self._num_drawn = 0
        self._names: set[str] = set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if not comm.is_main_process():
            return
        for inp, output in zip(inputs, outputs, strict=True):
            if self._num_drawn < self._num_images:
                self._num_drawn += 1
                self._draw(inp, output)

    def evaluate(self) -> dict:
        """Log where the pictures are, and return no metrics."""
        if comm.is_main_process() and self._num_drawn:
            logger.info("Drew %s images with detections into %s", self._num_drawn, self._folder)
        return {}

    def _draw(self, inp: dict, output: dict) -> None:
        metadata = MetadataCatalog.get(self._dataset_name)
        image = read_image(inp["file_name"], "RGB", self._max_value_16_bit, expected=inp)
        found = draw_output(image, output, metadata, self._score_thresh, self._scale)
        record = self._record(inp["file_name"])
        if "annotations" in record and "instances" in output:
            # Ground truth masks and keypoints are only useful if the model predicts them.
            fields = {"segmentation": "pred_masks", "keypoints": "pred_keypoints"}
            hidden = {key for key, field in fields.items() if not output["instances"].has(field)}
            annotations = [
                {key: value for key, value in annotation.items() if key not in hidden}
                for annotation in record["annotations"]
            ]
            record = {**record, "annotations": annotations}
        true = draw_ground_truth(image, record, metadata, self._scale)
        picture = side_by_side({"detections": found, "ground truth": true})
        name = picture_name(inp["file_name"], inp.get("image_id"), self._names)
        name = f"{file_stem(self._dataset_name)}_{name}"
        path = os.path.join(self._folder, f"{name}.jpg")
        with going_on_without(path):
            PathManager.mkdirs(self._folder)
            save_picture(picture, path)
        log_image(f"{FOLDER}/{name}", picture.transpose(2, 0, 1))

    def _record(self, file_name: str) -> dict:
        if self._truth is None:
            # The loader keeps the order of the dataset, and the main process gets its first part.
            records = DatasetCatalog.get(self._dataset_name)
            self._truth = {r["file_name"]: r for r in records}
        return self._truth.get(file_name, {})


def draw_output(
    image: np.ndarray,
    output: dict[str, Any],
    metadata: Any,
    score_thresh: float = 0.5,
    scale: float = 1.0,
) -> np.ndarray:
    """Draw the output of a model for one image.

    Args:
        image: (H, W, 3) RGB.
        output: a model's output dict; of several kinds of segmentation, the most complete is drawn.
        score_thresh: minimum score of detections.
    Returns:
        (H * scale, W * scale, 3) uint8 RGB.
    """
    visualizer = Visualizer(image, metadata, scale=scale)
    if "panoptic_seg" in output:
        ids, segments = output["panoptic_seg"]
        visualizer.draw_panoptic_seg(ids.cpu(), segments)
    elif "sem_seg" in output:
        visualizer.draw_sem_seg(output["sem_seg"].argmax(dim=0).cpu(), alpha=0.6)
    if "instances" in output and "panoptic_seg" not in output:
        instances = output["instances"].to("cpu")
        visualizer.draw_instance_predictions(instances[instances.scores >= score_thresh])
    if "proposals" in output and "instances" not in output:
        boxes = output["proposals"].to("cpu").proposal_boxes[:NUM_PROPOSALS]
        visualizer.overlay_instances(boxes=boxes)
    return visualizer.get_output().get_image()


def draw_ground_truth(
    image: np.ndarray, record: dict, metadata: Any, scale: float = 1.0
) -> np.ndarray:
    """Draw the ground truth of one image: only the panoptic segments, if it has any."""
    keys = ("annotations", "sem_seg_file_name")
    if "pan_seg_file_name" in record:
        keys = ("pan_seg_file_name", "segments_info")
    shown = {key: record[key] for key in keys if key in record}
    visualizer = Visualizer(image, metadata, scale=scale)
    return visualizer.draw_dataset_dict(shown).get_image()


def side_by_side(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Place pictures of the same size next to each other, each with its title above."""
    gap = 6
    columns = []
    for title, picture in pictures.items():
        size = max(min(picture.shape[:2]) / 24, 11)
        strip = np.full((round(size * 1.7), picture.shape[1], 3), 255, np.uint8)
        canvas = VisImage(np.concatenate([strip, picture]))
        width, _ = canvas.label_size(title, size)
        canvas.label(title, ((picture.shape[1] - width) / 2, size * 0.1), size, "w", color="k")
        columns += [canvas.get_image(), np.full((1, gap, 3), 255, np.uint8)]
    height = columns[0].shape[0]
    columns = [np.broadcast_to(c, (height, *c.shape[1:])) for c in columns[:-1]]
    return np.concatenate(columns, axis=1)


def save_picture(picture: np.ndarray, path: str) -> None:
    """Write an (H, W, 3) RGB picture; the extension determines the format."""
    VisImage(picture).save(path)


def picture_name(file_name: str, image_id: Any, taken: set[str]) -> str:
    """Return a short name for the picture of an image, without extension and not in `taken`.

    It is the name of the image file, with the image id if that name is already taken.
    """
    name = os.path.splitext(os.path.basename(file_name.rstrip("/")))[0]
    name = f"{name}_{image_id}" if name in taken else name
    taken.add(name)
    return name
