"""Scenes of shapes: outlines, keypoints and the range of scenes."""

import numpy as np
import pytest

from d2lite.data.datasets.shapes_scene import (
    OUTLINES,
    SPLITS,
    Shape,
    make_scene,
)


def test_outlines_fill_their_frame():
    for name, outline in OUTLINES.items():
        np.testing.assert_allclose(outline.min(axis=0), -1, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(outline.max(axis=0), 1, atol=1e-12, err_msg=name)


def test_upright_keypoints_by_hand():
    shape = Shape(category=1, center=(50.0, 40.0), size=(20.0, 10.0), angle=0.0, color=(0, 0, 0))
    expected = [(50, 35), (50, 45), (45, 40), (55, 40), (50, 40)]  # top bottom left right center
    np.testing.assert_allclose(shape.keypoints(), expected)
    assert shape.box == (40, 35, 60, 45)


def test_turned_keypoints_by_hand():
    shape = Shape(category=1, center=(50.0, 40.0), size=(20.0, 10.0), angle=90.0, color=(0, 0, 0))
    # A quarter turn counter-clockwise brings the top to the left and the left to the bottom.
    expected = [(45, 40), (55, 40), (50, 45), (50, 35), (50, 40)]
    np.testing.assert_allclose(shape.keypoints(), expected)
    np.testing.assert_allclose(shape.box, (45, 30, 55, 50))


def test_scenes_out_of_range_are_errors():
    with pytest.raises(IndexError, match="pictures 0 to 199"):
        make_scene("val", SPLITS["val"].length)


def test_a_scene_is_made_of_its_split_and_number_alone():
    assert make_scene("val", 3) == make_scene("val", 3)
    assert make_scene("val", 3) != make_scene("val", 4)
    assert make_scene("val", 3) != make_scene("train", 3)
