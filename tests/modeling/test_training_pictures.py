"""Training images beside their ground truth, in the event storage."""

import numpy as np
import pytest
import torch

from d2lite.modeling.training_pictures import draw_beside_truth
from d2lite.structures import Boxes, Instances
from d2lite.utils.events import EventStorage

HEIGHT, WIDTH = 30, 40


def drawn(boxes, axis: int, input_format: str = "RGB") -> np.ndarray:
    """Return the picture of a dark image with the ground truth (5, 5, 15, 15)."""
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[0] = 60
    truth = Instances((HEIGHT, WIDTH), gt_boxes=Boxes(torch.tensor([[5.0, 5.0, 15.0, 15.0]])))
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    with EventStorage() as storage:
        draw_beside_truth({"image": image, "instances": truth}, boxes, input_format, "x", axis)
    ((name, picture, _),) = storage._vis_data
    assert name == "x"
    return np.asarray(picture)


@pytest.mark.parametrize("axis, shape", [(0, (3, 60, 40)), (1, (3, 30, 80))])
def test_ground_truth_is_above_or_to_the_left(axis, shape):
    picture = drawn([], axis)
    assert picture.shape == shape
    truth, found = np.split(picture, 2, axis=1 + axis)
    plain = np.zeros_like(found)
    plain[0] = 60
    assert np.array_equal(found, plain) and not np.array_equal(truth, plain)
    same_boxes = drawn([[5, 5, 15, 15]], axis)
    assert not np.array_equal(np.split(same_boxes, 2, axis=1 + axis)[1], plain)


def test_channels_are_shown_as_rgb():
    assert drawn([], 1, "BGR")[:, -1, -1].tolist() == [0, 0, 60]


def test_only_the_best_boxes_are_drawn():
    best = [[1, 1, 5, 5]] * 20
    assert np.array_equal(
        drawn([*best, [20, 20, 30, 28]], 1)[:, 18:, 58:], drawn(best, 1)[:, 18:, 58:]
    )
    seen = drawn([*best[:19], [20, 20, 30, 28]], 1)[:, 18:, 58:]
    assert not np.array_equal(seen, drawn(best, 1)[:, 18:, 58:])
