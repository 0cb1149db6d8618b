"""Changes of colors, against the formulas of HSV worked by hand."""

import colorsys

import numpy as np
import pytest

from d2lite.data import transforms as T


def one_pixel(*color, **changes):
    return T.change_colors(np.array([[color]], dtype=np.uint8), **changes)[0, 0].tolist()


def test_nothing_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(T.change_colors(image), image)


@pytest.mark.parametrize(
    "color, changes, expected",
    [
        ((10, 20, 250), {"brightness": 30}, [40, 50, 255]),
        ((10, 20, 250), {"brightness": -15}, [0, 5, 235]),
        ((10, 20, 251), {"contrast": 0.5}, [5, 10, 126]),
        ((200, 100, 50), {"brightness": 10, "contrast": 2.0}, [255, 220, 120]),
        ((255, 0, 0), {"hue": 120.0}, [0, 255, 0]),
        ((255, 0, 0), {"hue": -120.0}, [0, 0, 255]),
        # Saturation 1/2 and 1 of value 200: the least channel is 100 and 0.
        ((200, 100, 100), {"saturation": 0.0}, [200, 200, 200]),
        ((200, 100, 100), {"saturation": 3.0}, [200, 0, 0]),
        # The value stops at 255, a factor of 1.275 for all channels.
        ((200, 100, 100), {"value": 1.1}, [220, 110, 110]),
        ((200, 100, 100), {"value": 5.0}, [255, 128, 128]),
    ],
)
def test_changes_worked_by_hand(color, changes, expected):
    assert one_pixel(*color, **changes) == pytest.approx(expected, abs=1)


def test_contrast_first_cuts_off_before_the_hue_turns():
    """Twice (200, 100, 0) is (255, 200, 0), a yellower hue than before."""
    first = one_pixel(200, 100, 0, contrast=2.0, hue=60.0)
    last = one_pixel(200, 100, 0, contrast=2.0, hue=60.0, contrast_last=True)
    assert first == pytest.approx([55, 255, 0], abs=1)
    assert last == pytest.approx([200, 255, 0], abs=1)


def test_hsv_is_that_of_the_standard_library():
    rng = np.random.default_rng(1)
    for color in rng.integers(0, 256, (20, 3)).tolist():
        h, s, v = colorsys.rgb_to_hsv(*(x / 255 for x in color))
        expected = colorsys.hsv_to_rgb((h + 25 / 360) % 1, min(s * 1.3, 1), min(v * 0.8, 1))
        got = one_pixel(*color, hue=25.0, saturation=1.3, value=0.8)
        assert got == pytest.approx([255 * x for x in expected], abs=1)


def test_gray_pixels_have_no_hue_and_no_saturation():
    gray = np.full((2, 2, 3), 77, dtype=np.uint8)
    assert np.array_equal(T.change_colors(gray, hue=90.0, saturation=1.5), gray)
