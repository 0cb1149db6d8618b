"""Pictures of a training, which now and then are put into the event storage."""

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
    """Put one image twice into the event storage: with its ground truth, and with `boxes`.

    Args:
        batched_input: has "image" and "instances".
        boxes: in the size of the image, best first; the best 20 are drawn.
        input_format: order of the image's channels, such as "BGR".
        name: of the picture in the event storage.
        axis: 0 puts the ground truth on top, 1 to the left.
    """
    image = convert_image_to_rgb(batched_input["image"].permute(1, 2, 0), input_format)
    best = boxes.tensor[:MAX_DRAWN_BOXES].cpu().numpy()
    drawn = [
        Visualizer(image, None).overlay_instances(boxes=x).get_image()
        for x in (batched_input["instances"].gt_boxes, best)
    ]
    log_image(name, np.concatenate(drawn, axis=axis).transpose(2, 0, 1))
