"""Ids of segments as colors."""

import numpy as np

from d2lite.utils.segment_colors import id_to_rgb, rgb_to_id


def test_colors_and_ids_are_inverse():
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]])
    np.testing.assert_array_equal(rgb_to_id(id_to_rgb(ids)), ids)
