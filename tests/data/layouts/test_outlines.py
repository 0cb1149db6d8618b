"""Outlines: around masks, joined into one, of ellipses."""

import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
from shapely.geometry import Polygon

from d2lite.data.layouts.outlines import (
    box_of_polygons,
    ellipse_polygon,
    join_polygons,
    mask_polygons,
    mask_to_rle,
    polygons_of,
)

SQUARE = [10.0, 10, 20, 10, 20, 20, 10, 20]
TRIANGLE = [30.0, 12, 40, 12, 30, 32]


def pixels(polygons, size=(60, 80)):
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *size))).astype(bool)


def area(polygon):
    return Polygon(np.reshape(polygon, (-1, 2))).area


def test_box_around_polygons():
    assert box_of_polygons([SQUARE, TRIANGLE]) == [10, 10, 40, 32]


@pytest.mark.parametrize(
    "parts", [[SQUARE], [SQUARE, TRIANGLE], [TRIANGLE, SQUARE, [50.0, 5, 60, 5, 55, 9]]]
)
def test_joined_polygons_cover_the_same(parts):
    joined = join_polygons(parts)
    x, y = np.reshape(joined, (-1, 2)).T
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    turned = all(_is_clockwise(part) == _is_clockwise(parts[0]) for part in parts)
    assert turned and shoelace == pytest.approx(sum(area(part) for part in parts))
    difference = (pixels([joined]) != pixels(parts)).sum()
    assert difference <= 25  # a bridge is drawn one pixel wide at most
    assert box_of_polygons([joined]) == box_of_polygons(parts)


def _is_clockwise(polygon):
    x, y = np.reshape(polygon, (-1, 2)).T
    return np.dot(x, np.roll(y, 1)) > np.dot(y, np.roll(x, 1))


def test_parts_that_turn_the_other_way_are_turned():
    backward = np.reshape(TRIANGLE, (-1, 2))[::-1].ravel().tolist()
    x, y = np.reshape(join_polygons([SQUARE, backward]), (-1, 2)).T
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert shoelace == pytest.approx(200)


def test_outlines_of_a_mask_stay_within_a_quarter_of_a_pixel():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 1
    mask[40, 5:8] = 1  # a pixel high
    mask[55, 70] = 1  # a single pixel
    boxes = sorted(box_of_polygons([polygon]) for polygon in mask_polygons(mask))
    expected = [[5, 40, 8, 41], [30, 10, 50, 20], [70, 55, 71, 56]]
    np.testing.assert_allclose(boxes, expected, atol=0.25)


def test_masks_and_polygons_as_polygons():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 1
    for segmentation in (mask, mask_to_rle(mask)):
        (polygon,), exact = polygons_of(segmentation)
        assert not exact
        assert (pixels([polygon]) != mask.astype(bool)).sum() <= 30
    assert polygons_of([np.array(SQUARE)]) == ([SQUARE], True)
    assert polygons_of(np.zeros((4, 4), np.uint8)) == ([], False)


def test_ellipses():
    polygon = ellipse_polygon((50, 40), (20, 10))
    assert area(polygon) == pytest.approx(math.pi * 200, rel=0.01)
    np.testing.assert_allclose(box_of_polygons([polygon]), [30, 30, 70, 50], atol=0.1)
    turned = ellipse_polygon((50, 40), (20, 10), math.pi / 2)
    np.testing.assert_allclose(box_of_polygons([turned]), [40, 20, 60, 60], atol=0.1)
