"""Shapes of which only a part is known."""

from d2lite.layers import ShapeSpec


def test_shape_spec_knows_only_what_it_is_told():
    assert ShapeSpec(channels=3) == ShapeSpec(3, None, None, None)
    assert ShapeSpec(stride=4).channels is None
