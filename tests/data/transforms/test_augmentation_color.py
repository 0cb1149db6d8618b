"""Augmentations of brightness, contrast, saturation and lighting."""

import numpy as np
import pytest

from d2lite.data import transforms as T

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_color_augmentations_worked_by_hand():
    image = np.array([[[100, 200, 50], [0, 0, 0]]], dtype=np.uint8)
    dark = T.RandomBrightness(0.5, 0.5).get_transform(image).apply_image(image)
    assert dark[0, 0].tolist() == [50, 100, 25]
    flat = T.RandomContrast(0, 0).get_transform(image).apply_image(image)
    assert np.unique(flat).tolist() == [int(350 / 6)]
    gray = T.RandomSaturation(0, 0).get_transform(image).apply_image(image)
    assert gray[0, 0].tolist() == [int(0.299 * 100 + 0.587 * 200 + 0.114 * 50)] * 3
    unlit = T.RandomLighting(0).get_transform(image).apply_image(image)
    np.testing.assert_array_equal(unlit, image)


@pytest.mark.parametrize("kind", [T.RandomSaturation, T.RandomLighting])
def test_color_augmentations_need_three_channels(kind):
    arguments = (1, 1) if kind is T.RandomSaturation else (1,)
    with pytest.raises(AssertionError, match="RGB"):
        kind(*arguments).get_transform(IMAGE[:, :, :1])
