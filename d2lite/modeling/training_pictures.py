"""Drawings of training images for the event storage."""

from typing import Any

import numpy as np

from d2lite.data.detection_utils import convert_image_to_rgb
from d2lite.structures import Boxes
from d2lite.utils.events import log_image
from d2lite.visualization import Visualizer

MAX_DRAWN_BOXES = 20


def draw_beside_truth(
    batched_input: dict[str, Any], boxes: Boxes, input_format: str, name: str, axis: int
) -> None:
    """Draw an image with its ground truth and with `boxes`, and put both into the event storage.

    Args:
        batched_input: has "image" and "instances".
        boxes: in image coordinates, best first; the best 20 are drawn.
        input_format: channel order of the image, such as "BGR".
        name: of the drawing in the event storage.
        axis: 0 puts the ground truth above, 1 to the left.
    """
    image = convert_image_to_rgb(batched_input["image"].permute(1, 2, 0), input_format)
    best = boxes.tensor[:MAX_DRAWN_BOXES].cpu().numpy()
    drawn = [
        Visualizer(image, None).overlay_instances(boxes=x).get_image()
        for x in (batched_input["instances"].gt_boxes, best)
    ]
    log_image(name, np.concatenate(drawn, axis=axis).transpose(2, 0, 1))
