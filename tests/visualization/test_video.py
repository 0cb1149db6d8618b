"""Objects keep their colors from frame to frame."""

import numpy as np
import pytest
import torch

from d2lite.data import Metadata
from d2lite.structures import Boxes, Instances
from d2lite.visualization import ColorMode, VideoVisualizer

FRAME = np.full((100, 140, 3), 128, np.uint8)
METADATA = Metadata(name="film", thing_classes=["cat", "dog"], stuff_classes=["things", "grass"])


def frame_of(boxes, classes=None, masks=False, **fields):
    found = Instances(FRAME.shape[:2])
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.pred_classes = torch.tensor(classes or [0] * len(boxes))
    if masks:
        found.pred_masks = torch.zeros(len(boxes), *FRAME.shape[:2], dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(found.pred_masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
    for name, value in fields.items():
        found.set(name, value)
    return found


def colors_at(picture, *points):
    return [tuple(picture[y, x].tolist()) for x, y in points]


@pytest.mark.parametrize("masks", [False, True])
def test_colors_follow_objects_and_not_their_order(masks):
    visualizer = VideoVisualizer(METADATA)
    left, right = [10, 40, 50, 80], [80, 40, 120, 80]
    first = visualizer.draw_instance_predictions(FRAME, frame_of([left, right], masks=masks))
    moved = [[v + 2 for v in box] for box in (right, left)]
    second = visualizer.draw_instance_predictions(FRAME, frame_of(moved, masks=masks))
    # On the lower edges of boxes, or within masks.
    before = colors_at(first.get_image(), (30, 60 if masks else 79), (100, 60 if masks else 79))
    after = colors_at(second.get_image(), (30, 60 if masks else 81), (100, 60 if masks else 81))
    assert before == after and before[0] != before[1]


def test_an_object_keeps_its_color_while_it_is_missed_a_little():
    visualizer = VideoVisualizer(METADATA)
    box = [10, 40, 50, 80]

    def color(boxes):
        drawn = visualizer.draw_instance_predictions(FRAME, frame_of(boxes))
        return colors_at(drawn.get_image(), (30, 79))[0]

    original = color([box])
    for _ in range(5):
        color([])
    assert color([box]) == original
    for _ in range(9):
        color([])
    assert color([box]) != original


def test_another_class_is_another_object():
    visualizer = VideoVisualizer(METADATA)
    pictures = [
        visualizer.draw_instance_predictions(FRAME, frame_of([[10, 40, 50, 80]], [c])).get_image()
        for c in (0, 1)
    ]
    assert colors_at(pictures[0], (30, 79)) != colors_at(pictures[1], (30, 79))


def test_ids_and_colors_of_a_tracker_are_taken():
    visualizer = VideoVisualizer(METADATA)
    box = [10, 40, 50, 80]
    one = visualizer.draw_instance_predictions(FRAME, frame_of([box], ID=[3])).get_image()
    far = [[b + 50 for b in box[:1]] + [40, 100, 80]]
    two = visualizer.draw_instance_predictions(FRAME, frame_of(far, ID=[3])).get_image()
    assert colors_at(one, (30, 79)) == colors_at(two, (80, 79))
    red = frame_of([box], COLOR=[(1.0, 0.0, 0.0)])
    picture = visualizer.draw_instance_predictions(FRAME, red).get_image()
    assert picture[79, 30, 0] > 200 and picture[79, 30, 1] < 30


@pytest.mark.parametrize("mode", [ColorMode.IMAGE, ColorMode.IMAGE_BW])
def test_panoptic_frames(mode):
    visualizer = VideoVisualizer(METADATA, mode)
    colors = []
    for shift in (0, 3):
        ids = torch.zeros(FRAME.shape[:2], dtype=torch.int64)
        ids[:30], ids[50:90, 20 + shift : 70 + shift] = 1, 2
        segments = [
            {"id": 1, "isthing": False, "category_id": 1},
            {"id": 2, "isthing": True, "category_id": 0},
        ]
        drawn = visualizer.draw_panoptic_seg_predictions(FRAME, ids, segments).get_image()
        colors.append(colors_at(drawn, (45, 75), (100, 10)))
    assert colors[0] == colors[1]
    assert (128, 128, 128) not in colors[0]
    empty = visualizer.draw_panoptic_seg_predictions(FRAME, torch.zeros(100, 140).long(), [])
    np.testing.assert_array_equal(empty.get_image(), FRAME)


def test_semantic_frames_and_modes():
    labels = torch.ones(FRAME.shape[:2], dtype=torch.int64)
    drawn = VideoVisualizer(METADATA).draw_sem_seg(FRAME, labels).get_image()
    assert (drawn != FRAME).any(axis=-1).mean() > 0.9
    with pytest.raises(ValueError, match="IMAGE and IMAGE_BW"):
        VideoVisualizer(METADATA, ColorMode.SEGMENTATION)
