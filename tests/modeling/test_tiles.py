"""Tiles of large images, by hand and against pycocotools."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from d2lite.modeling.tiles import is_cut, merge_windows, rle_in_image, tile_windows
from d2lite.structures import Boxes, Instances


@pytest.mark.parametrize("height, width", [(100, 250), (64, 64), (65, 300), (10, 500), (640, 63)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_cover_the_image_and_overlap(height, width, overlap):
    windows = tile_windows(height, width, 64, overlap)
    seen = np.zeros((height, width), int)
    for x0, y0, x1, y1 in windows:
        assert (x1 - x0, y1 - y0) == (min(64, width), min(64, height))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    columns = sorted({x0 for x0, *_ in windows})
    shared = [64 - (b - a) for a, b in pairwise(columns)]
    assert all(part >= 64 * overlap - 1 for part in shared)


def test_boxes_are_cut_by_edges_of_the_window_inside_of_the_image():
    boxes = torch.tensor([[50.0, 10, 60, 20], [0, 10, 9, 20], [10, 90, 20, 100], [40, 5, 45, 9]])
    # A window whose right edge alone is inside of the image, then one of the whole image.
    assert is_cut(boxes, (0, 0, 60, 100), (100, 200)).tolist() == [True, False, False, False]
    assert not is_cut(boxes, (0, 0, 60, 100), (100, 60)).any()


def test_tiles_by_hand():
    # 100 wide, tiles of 60 with at least 12 in common: two, from 0 and 40.
    assert tile_windows(60, 100, 60, 0.2) == [(0, 0, 60, 60), (40, 0, 100, 60)]


@pytest.mark.parametrize("size, overlap", [(0, 0.2), (64, 1.0), (64, -0.1)])
def test_impossible_tiles_are_errors(size, overlap):
    with pytest.raises(ValueError, match="expected a size of 1 or more"):
        tile_windows(100, 100, size, overlap)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("window", [(3, 2, 8, 9), (0, 0, 12, 10), (5, 0, 9, 10), (11, 9, 12, 10)])
def test_mask_of_a_window_is_that_of_the_image(window, share):
    x0, y0, x1, y1 = window
    part = np.random.default_rng(0).random((y1 - y0, x1 - x0)) < share
    whole = np.zeros((10, 12), np.uint8)
    whole[y0:y1, x0:x1] = part
    expected = mask_util.encode(np.asfortranarray(whole))
    got = rle_in_image(part, x0, y0, (10, 12))
    assert got == {"size": [10, 12], "counts": expected["counts"].decode()}


def found(boxes, scores, classes, size=(60, 60)) -> Instances:
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


TWO = [(0, 0, 60, 60), (40, 0, 100, 60)]


def test_object_in_the_overlap_is_counted_once():
    left = found([[42, 10, 52, 20]], [0.8], [0])
    right = found([[2.5, 10, 12, 20]], [0.9], [0])  # 42.5 to 52 in the image
    merged = merge_windows([left, right], TWO, (60, 100))
    assert merged.pred_boxes.tensor.tolist() == [[42.5, 10, 52, 20]]
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert merged.image_size == (60, 100)


def test_object_that_a_tile_cuts_goes_even_with_a_higher_score():
    # 45 to 80 in the image; the left tile ends at 60 and sees 15 of its 35 pixels: IoU 0.43.
    left = found([[45, 10, 60, 20]], [0.95], [0])
    right = found([[5, 10, 40, 20]], [0.6], [0])
    merged = merge_windows([left, right], TWO, (60, 100))
    assert merged.pred_boxes.tensor.tolist() == [[45, 10, 80, 20]]


def test_other_classes_and_other_places_stay():
    left = found([[42, 10, 52, 20], [1, 1, 9, 9]], [0.8, 0.3], [0, 0])
    right = found([[2, 10, 12, 20]], [0.7], [1])
    merged = merge_windows([left, right], TWO, (60, 100))
    assert merged.pred_classes.tolist() == [0, 1, 0]
    assert merged.scores.tolist() == pytest.approx([0.8, 0.7, 0.3])


def test_box_at_the_edge_of_the_image_is_not_cut():
    # Both end at x = 100, where the image ends; the better one stays although it is the smaller.
    right = found([[50, 10, 60, 20], [30, 10, 60, 20]], [0.9, 0.8], [0, 0])
    merged = merge_windows([found([], [], []), right], TWO, (60, 100))
    assert len(merged) == 2


def test_nothing_found():
    merged = merge_windows([found([], [], [])] * 2, TWO, (60, 100))
    assert len(merged) == 0


def test_masks_and_keypoints_move_along():
    right = found([[2, 10, 12, 20]], [0.7], [0])
    masks = torch.zeros(1, 60, 60, dtype=torch.bool)
    masks[0, 10:20, 2:12] = True
    right.pred_masks = masks
    right.pred_keypoints = torch.tensor([[[5.0, 15.0, 0.5]]])
    left = found([], [], [])
    left.pred_masks = torch.zeros(0, 60, 60, dtype=torch.bool)
    left.pred_keypoints = torch.zeros(0, 1, 3)
    merged = merge_windows([left, right], TWO, (60, 100))
    whole = np.zeros((60, 100), np.uint8)
    whole[10:20, 42:52] = 1
    assert (mask_util.decode(merged.pred_masks[0]) == whole).all()
    assert merged.pred_keypoints.tolist() == [[[45.0, 15.0, 0.5]]]
