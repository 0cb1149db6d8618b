"""Images to draw on, of every type and shape."""

import cv2
import numpy as np
import pytest

from d2lite.visualization import VisImage
from d2lite.visualization.canvas import as_rgb

GRAY = np.full((120, 160, 3), 128, np.uint8)


def test_saving(tmp_path):
    output = VisImage(GRAY)
    output.rectangle((20, 30, 100, 90), (1, 0, 0), width=2)
    output.save(str(tmp_path / "x.png"))
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "x.png"))[..., ::-1], output.get_image()
    )
    with pytest.raises(OSError, match=r"'\.what' is not an image format"):
        output.save(str(tmp_path / "x.what"))


def test_images_of_other_types_and_the_original_are_left_alone():
    canvas = VisImage(np.full((50, 60, 3), 300.7, np.float32))
    assert canvas.get_image().dtype == np.uint8
    before = GRAY.copy()
    VisImage(GRAY).rectangle((20, 30, 100, 90), "r", width=2)
    np.testing.assert_array_equal(GRAY, before)
    picture = canvas.get_image()
    picture[:] = 0
    assert canvas.get_image().max() == 255


def test_shapes_outside_of_the_image_are_no_error():
    canvas = VisImage(GRAY)
    canvas.line(np.array([(-50, -50), (-10, -10)]), "r", 2)
    canvas.circle((500, 500), 5, "r")
    canvas.label("word", (1000, -1000), 12, "r")
    canvas.line(np.array([(np.nan, 1), (2, 3)]), "r", 2)
    np.testing.assert_array_equal(canvas.get_image(), GRAY)


def test_transparent_parts_are_white():
    rgba = np.zeros((2, 1, 4), np.uint8)
    rgba[1] = 100, 0, 200, 51  # a fifth of the color, four fifths of white
    assert VisImage(rgba).get_image().tolist() == [[[255] * 3], [[224, 204, 244]]]
    gray = np.array([[[100, 51]]], np.uint8)
    assert VisImage(gray).get_image().tolist() == [[[224] * 3]]


@pytest.mark.parametrize("shape", [(5,), (4, 4, 5), (4, 4, 3, 1)])
def test_what_is_no_image_is_an_error(shape):
    with pytest.raises(ValueError, match="with 1 to 4 channels, got"):
        as_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "image",
    [GRAY / 255.0, GRAY.astype(np.uint16) * 257, GRAY.astype(np.float32), GRAY.astype(np.int64)],
    ids=["0 to 1", "16 bits", "0 to 255", "int64"],
)
def test_numbers_of_any_type_are_drawn_as_their_brightness(image):
    assert np.array_equal(VisImage(image).get_image(), GRAY)


def test_masks_are_drawn_in_black_and_white():
    assert VisImage(GRAY[..., 0] > 100).get_image().max() == 255
