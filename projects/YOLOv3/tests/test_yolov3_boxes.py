"""Grid, coding, assignment, losses and letterbox of YOLOv3."""

import math

import numpy as np
import pytest
import torch
from fvcore.transforms.transform import CropTransform, PadTransform

from d2lite.data import transforms as T
from d2lite.projects.yolov3 import (
    Grid,
    HSVJitter,
    RandomPlacement,
    assign_objects,
    decode,
    encode,
    fit_letterbox,
    ignored_predictions,
    iou_of_sizes,
    letterbox,
    make_grid,
    yolov3_losses,
)

SIZES, STRIDES = [(8, 4), (4, 2), (2, 1)], [8, 16, 32]  # an image of 64 x 32
ANCHORS = torch.tensor([[[4.0, 6], [8, 8]], [[16, 12], [10, 20]], [[32, 20], [30, 60]]])


def random_boxes(number: int, height: int = 64, width: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, 2, generator=generator).sort(dim=1).values
    boxes = corners.flatten(1) * torch.tensor([width, height] * 2)
    boxes[:, 2:] += 1.0
    return boxes


def test_grid_by_hand():
    grid = make_grid(SIZES, STRIDES, ANCHORS)
    assert len(grid.cells) == 2 * (32 + 8 + 2)
    # Row 1, column 2 of the first level is cell 6; the first level has 64 predictions.
    assert grid.cells[12:14].tolist() == [[2, 1], [2, 1]]
    assert grid.anchors[12:14].tolist() == [[4, 6], [8, 8]]
    assert grid.cells[64 + 2 * 3 + 1].tolist() == [1, 1]
    assert grid.strides[[0, 63, 64, 79, 80]].flatten().tolist() == [8, 8, 16, 16, 32]


def test_decoding_by_hand():
    grid = Grid(torch.tensor([[3.0, 1]]), torch.tensor([[16.0]]), torch.tensor([[10.0, 20]]))
    deltas = torch.tensor([[0.0, math.log(3), math.log(2), 0]])
    # The center is (3.5 * 16, 1.75 * 16), the size (20, 20).
    assert decode(deltas, grid)[0].tolist() == pytest.approx([46, 18, 66, 38], abs=1e-4)


def test_encoding_undoes_decoding():
    grid = make_grid(SIZES, STRIDES, ANCHORS)
    deltas = torch.randn(len(grid.cells), 4, generator=torch.Generator().manual_seed(1))
    offsets, log_ratios = encode(decode(deltas, grid), grid)
    torch.testing.assert_close(offsets, deltas[:, :2].sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_ratios, deltas[:, 2:], rtol=0, atol=1e-4)


def test_huge_predictions_stay_finite():
    grid = make_grid(SIZES, STRIDES, ANCHORS)
    assert decode(torch.full((len(grid.cells), 4), 1e4), grid).isfinite().all()


def test_shape_iou_by_hand():
    iou = iou_of_sizes(torch.tensor([[4.0, 2]]), torch.tensor([[2.0, 4], [4, 2], [8, 4]]))
    assert iou[0].tolist() == pytest.approx([4 / 12, 1, 0.25])


def assigned_by_loop(boxes: torch.Tensor) -> list[int]:
    """As Darknet goes through the truth: the best anchor of all, the cell of the center."""
    owners = [-1] * sum(2 * rows * columns for rows, columns in SIZES)
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        best, best_iou = (0, 0), -1.0
        for level in range(3):
            for anchor in range(2):
                w, h = ANCHORS[level, anchor].tolist()
                overlap = min(w, x1 - x0) * min(h, y1 - y0)
                iou = overlap / (w * h + (x1 - x0) * (y1 - y0) - overlap)
                if iou > best_iou:
                    best, best_iou = (level, anchor), iou
        level, anchor = best
        rows, columns = SIZES[level]
        column = min(int((x0 + x1) / 2 // STRIDES[level]), columns - 1)
        row = min(int((y0 + y1) / 2 // STRIDES[level]), rows - 1)
        before = sum(2 * r * c for r, c in SIZES[:level])
        owners[before + 2 * (row * columns + column) + anchor] = number
    return owners


@pytest.mark.parametrize("seed", range(5))
def test_assignment_equals_a_loop(seed):
    boxes = random_boxes(40, seed=seed)
    found = assign_objects(boxes, SIZES, STRIDES, ANCHORS)
    assert found.tolist() == assigned_by_loop(boxes)
    assert (found >= 0).sum() < 40  # some wanted the same prediction


def test_last_object_gets_what_two_want():
    boxes = torch.tensor([[1.0, 1, 5, 7]]).repeat(3, 1)
    found = assign_objects(boxes, SIZES, STRIDES, ANCHORS)
    assert found[found >= 0].tolist() == [2]


def test_object_on_the_border_gets_the_last_cell():
    boxes = torch.tensor([[28.0, 60, 36, 68]])  # its center is the corner of the image
    found = assign_objects(boxes, SIZES, STRIDES, ANCHORS)
    assert found.tolist().index(0) == 2 * 31 + 1
    grid = make_grid(SIZES, STRIDES, ANCHORS)
    offsets, _ = encode(boxes, Grid(*(x[63:64] for x in grid)))
    assert offsets.tolist() == [[1.0, 1.0]]


def test_image_without_objects_has_no_owner():
    assert (assign_objects(torch.zeros(0, 4), SIZES, STRIDES, ANCHORS) == -1).all()


def test_ignored_are_those_above_the_threshold():
    iou = torch.tensor([[0.4, 0.5, 0.6], [0.7, 0.0, 0.0]])
    assert ignored_predictions(iou, 0.5).tolist() == [True, False, True]
    assert ignored_predictions(torch.zeros(0, 2), 0.5).tolist() == [False, False]


def losses_of(predictions, positive, ignored, **changes):
    number = int(positive.sum())
    targets = {
        "offsets": torch.full((number, 2), 0.5),
        "log_ratios": torch.zeros(number, 2),
        "classes": torch.zeros(number, dtype=torch.int64),
        "weights": torch.ones(number),
        **changes,
    }
    return yolov3_losses(predictions, **targets, positive=positive, ignored=ignored)


def test_losses_by_hand():
    """Two images with logits of 0; the ignored one, and an image without objects, are told least.

    An entropy of log 2 each: of x and y, of three objectnesses, of two classes; over two images.
    """
    predictions = torch.zeros(2, 2, 7)
    predictions[0, 0, 2] = 3.0
    positive = torch.tensor([[True, False], [False, False]])
    ignored = torch.tensor([[True, True], [False, False]])
    losses = losses_of(predictions, positive, ignored, weights=torch.tensor([1.5]))
    log2 = math.log(2)
    assert losses["loss_xy"].item() == pytest.approx(1.5 * 2 * log2 / 2)
    assert losses["loss_wh"].item() == pytest.approx(1.5 * 4.5 / 2)
    assert losses["loss_obj"].item() == pytest.approx(3 * log2 / 2)
    assert losses["loss_cls"].item() == pytest.approx(2 * log2 / 2)


def test_losses_without_objects_have_finite_gradients():
    predictions = torch.zeros(1, 3, 7, requires_grad=True)
    none = torch.zeros(1, 3, dtype=torch.bool)
    losses = losses_of(predictions, none, none)
    sum(losses.values()).backward()
    assert losses["loss_xy"] == losses["loss_wh"] == losses["loss_cls"] == 0
    assert predictions.grad[..., 4].tolist() == [[0.5] * 3]
    assert predictions.grad.isfinite().all()


def test_letterbox_by_hand():
    place = fit_letterbox((50, 100), 200)
    assert place == (100, 200, 0, 50, 2.0, 2.0)
    boxes = torch.tensor([[10.0, 20, 30, 40]])
    assert place.to_square(boxes).tolist() == [[20, 90, 60, 130]]


@pytest.mark.parametrize("size", [(50, 100), (97, 31), (64, 64), (333, 500), (1, 400)])
def test_boxes_return_from_the_letterbox(size):
    boxes = random_boxes(9, *size)
    place = fit_letterbox(size, 96)
    torch.testing.assert_close(place.to_image(place.to_square(boxes)), boxes, rtol=1e-4, atol=1e-3)
    assert max(place.height, place.width) == 96
    assert min(place.x0, place.y0) == 0


def test_letterbox_is_gray_around_the_image():
    image = torch.full((3, 10, 20), 7, dtype=torch.uint8)
    square = letterbox(image, 20)
    assert square.dtype == torch.uint8 and square.shape == (3, 20, 20)
    assert torch.equal(square[:, 5:15], image)
    assert (square[:, :5] == 128).all() and (square[:, 15:] == 128).all()
    assert letterbox(image, 40)[:, 10:30].unique().tolist() == [7]


@pytest.mark.parametrize("size", [(30, 50), (61, 32), (40, 40), (47, 99)])
def test_training_and_testing_see_the_same(size):
    """The placement without jitter, and the stock resize with the gray of the model."""
    np.random.seed(0)
    image = np.random.randint(0, 256, (*size, 3)).astype(np.uint8)
    train = RandomPlacement(64, 0.0, (1.0, 1.0)).get_transform(image)
    test = T.ResizeShortestEdge(64, 64).get_transform(image)
    resized = torch.from_numpy(test.apply_image(image).copy()).permute(2, 0, 1)
    expected = torch.from_numpy(train.apply_image(image)).permute(2, 0, 1)
    assert torch.equal(letterbox(resized, 64), expected)
    boxes = random_boxes(4, *size)
    place = fit_letterbox(size, 64)
    found = torch.from_numpy(train.apply_box(boxes.double().numpy()))
    torch.testing.assert_close(found.float(), place.to_square(boxes), rtol=1e-5, atol=1e-3)


def test_placed_image_lies_where_its_boxes_say():
    """A white image on the gray: its box, clipped, is where the white is."""
    np.random.seed(3)
    image = np.full((30, 50, 3), 255, np.uint8)
    cropped = padded = 0
    for _ in range(30):
        tfm = RandomPlacement(64, 0.3, (0.5, 1.8)).get_transform(image)
        placed = tfm.apply_image(image)
        assert placed.shape == (64, 64, 3)
        box = tfm.apply_box(np.array([[0.0, 0, 50, 30]]))[0]
        rows, columns = (placed[..., 0] == 255).nonzero()
        white = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.clip(0, 64).tolist() == pytest.approx(white)
        kinds = {type(t): t for t in tfm.transforms}
        cropped += kinds[CropTransform].w < kinds[CropTransform].orig_w
        padded += kinds[PadTransform].x1 > 0
    assert cropped > 3 and padded > 3


def test_colors_change_and_stay_bytes():
    np.random.seed(0)
    image = np.random.randint(0, 256, (8, 8, 3)).astype(np.uint8)
    changed = [HSVJitter().get_transform(image).apply_image(image) for _ in range(2)]
    assert all(x.dtype == np.uint8 and x.shape == image.shape for x in changed)
    assert not np.array_equal(*changed)
    same = HSVJitter(0.0, 1.0, 1.0).get_transform(image).apply_image(image)
    assert np.abs(same.astype(int) - image).max() <= 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomPlacement(64, jitter=1.0), r"INPUT\.YOLOV3\.JITTER is 1\.0"),
        (lambda: RandomPlacement(64, 0.1, (2.0, 1.0)), r"INPUT\.YOLOV3\.SCALE_RANGE is \(2\.0"),
        (lambda: HSVJitter(saturation=0.5), r"INPUT\.YOLOV3\.SATURATION is 0\.5"),
        (lambda: HSVJitter(exposure=0.5), r"INPUT\.YOLOV3\.EXPOSURE is 0\.5"),
    ],
)
def test_wrong_augmentations_name_their_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()
