"""The data sets known by name without any registration of one's own."""

from .shapes import register_all_shapes

__all__ = []

register_all_shapes()
