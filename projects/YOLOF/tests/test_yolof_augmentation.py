"""Random shifts of images and of what lies on them."""

import numpy as np
import pytest

from d2lite.config import get_cfg
from d2lite.data import transforms as T
from d2lite.data.augmentation import build_augmentation
from d2lite.projects.yolof import RandomShift, add_yolof_config

HEIGHT, WIDTH = 20, 30


def numbered_image() -> np.ndarray:
    return np.arange(1, HEIGHT * WIDTH + 1, dtype=np.float32).reshape(HEIGHT, WIDTH, 1)


@pytest.fixture
def drawn(monkeypatch):
    """Sets what the next draws give."""

    def draw(dx, dy, chance=0.0):
        monkeypatch.setattr(np.random, "rand", lambda: chance)
        monkeypatch.setattr(np.random, "randint", lambda *a, **k: np.array([dx, dy]))

    return draw


@pytest.mark.parametrize("dx, dy", [(5, 3), (-5, 3), (5, -3), (-5, -3), (0, 4), (7, 0), (0, 0)])
def test_pixels_boxes_and_labels_move_together(drawn, dx, dy):
    drawn(dx, dy)
    image = numbered_image()
    boxes = np.array([[10.0, 8.0, 20.0, 14.0]])
    labels = np.ones((HEIGHT, WIDTH), dtype=np.uint8)
    moved = T.AugInput(image, boxes=boxes.copy(), sem_seg=labels)
    RandomShift()(moved)
    expected = np.zeros_like(image)
    expected_labels = np.full_like(labels, 255)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            if 0 <= y - dy < HEIGHT and 0 <= x - dx < WIDTH:
                expected[y, x] = image[y - dy, x - dx]
                expected_labels[y, x] = 1
    np.testing.assert_array_equal(moved.image, expected)
    np.testing.assert_array_equal(moved.sem_seg, expected_labels)
    np.testing.assert_allclose(moved.boxes, boxes + [dx, dy, dx, dy])


@pytest.mark.parametrize(
    "dx, boxes, is_moved",
    [
        (15, [[20, 5, 30, 15]], False),  # the only object would be lost
        (15, [[20, 5, 30, 15], [0, 5, 10, 15]], True),
        (15, [], True),
        (30, [], False),  # nothing of the image would be left
    ],
)
def test_no_shift_that_leaves_nothing(drawn, dx, boxes, is_moved):
    drawn(dx, 0)
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    transform = RandomShift().get_transform(numbered_image(), boxes)
    assert isinstance(transform, T.NoOpTransform) != is_moved


def test_probability_and_range():
    np.random.seed(0)
    augmentation = RandomShift(prob=0.5, max_pixels=4)
    image, none = numbered_image(), np.zeros((0, 4))
    points = np.zeros((1, 2))
    moves = []
    for _ in range(200):
        transform = augmentation.get_transform(image, none)
        if not isinstance(transform, T.NoOpTransform):
            moves.append(transform.apply_coords(points.copy())[0])
    assert 60 < len(moves) < 140
    assert np.abs(moves).max() == 4 and np.min(moves) == -4


def test_config_chooses_it_for_training_only():
    cfg = get_cfg()
    add_yolof_config(cfg)
    cfg.INPUT.AUGMENTATION = "resize_shift_and_flip"
    cfg.INPUT.SHIFT.MAX_PIXELS = 5
    training = build_augmentation(cfg, is_train=True)
    assert [type(a).__name__ for a in training] == [
        "ResizeShortestEdge",
        "RandomShift",
        "RandomFlip",
    ]
    assert training[1].max_pixels == 5
    assert len(build_augmentation(cfg, is_train=False)) == 1
    cfg.INPUT.SHIFT.MAX_PIXELS = -1
    with pytest.raises(ValueError, match=r"INPUT\.SHIFT\.MAX_PIXELS is -1"):
        build_augmentation(cfg, is_train=True)
