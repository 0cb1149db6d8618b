"""Masks in all their forms."""

import numpy as np
import pytest

from d2lite.visualization import GenericMask, PanopticSegments


def test_generic_mask_converts_between_its_forms():
    from pycocotools import mask as mask_util

    bits = np.zeros((20, 30), np.uint8)
    bits[5:15, 10:20] = 1
    compressed = mask_util.encode(np.asfortranarray(bits))
    flat = bits.flatten(order="F")
    runs = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat), [1]]))).tolist()
    polygon = [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]]
    for form in (bits, compressed, {"size": [20, 30], "counts": runs}, polygon):
        mask = GenericMask(form, 20, 30)
        np.testing.assert_array_equal(mask.mask, bits)
        assert mask.area() == 100 and not mask.has_holes
        np.testing.assert_array_equal(mask.bbox(), [10, 5, 20, 15])
        assert len(mask.polygons) == 1


def test_generic_mask_with_a_hole_and_without_anything():
    bits = np.zeros((20, 30), bool)
    bits[2:18, 2:28], bits[8:12, 8:22] = True, False
    assert GenericMask(bits, 20, 30).has_holes
    empty = GenericMask(np.zeros((20, 30)), 20, 30)
    assert empty.polygons == [] and empty.area() == 0 and empty.bbox().tolist() == [0, 0, 0, 0]
    assert GenericMask([[1.0, 1.0, 2.0, 2.0]], 20, 30).area() == 0  # two points


@pytest.mark.parametrize(
    "form, message",
    [
        (np.zeros((5, 5)), "size .5, 5., but its image is 20 x 30"),
        ({"size": [20, 30]}, "keys counts and size"),
        ("mask", "cannot make a mask of a str"),
    ],
)
def test_generic_mask_of_something_else(form, message):
    with pytest.raises(ValueError, match=message):
        GenericMask(form, 20, 30)


def test_segments_are_had_by_kind_the_large_ones_first():
    seg = np.array([[1, 1, 1, 2], [3, 3, 2, 0]])
    infos = [{"id": i, "isthing": i != 2, "category_id": 10 * i} for i in (1, 2, 3)]
    segments = PanopticSegments(seg, infos)
    assert segments.non_empty_mask().tolist() == [[True] * 4, [True, True, True, False]]
    assert [info["id"] for _, info in segments.instance_masks()] == [1, 3]
    ((mask, info),) = segments.semantic_masks()
    assert info["category_id"] == 20 and mask.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
