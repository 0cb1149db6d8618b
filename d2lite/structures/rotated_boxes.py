"""Rotated boxes: (center x, center y, width, height, angle)."""

import torch
from torch import Tensor

from d2lite.layers.rotated_boxes import half_extent, pairwise_iou_rotated
from d2lite.structures.boxes import Boxes, as_box_tensor


class RotatedBoxes(Boxes):
    """N rotated boxes as one (N, 5) float32 tensor.

    A row is (center x, center y, width, height, angle): pixels, and degrees counter-clockwise
    as seen on the screen, where y points down. The box is an upright box of that width and
    height turned around its center, so (w, h, a) and (h, w, a + 90) cover the same area; they
    are nevertheless different boxes, since an object may have a front.

    Attributes:
        tensor: the (N, 5) float32 tensor itself.
    """

    def __init__(self, tensor: Tensor):
        """tensor: (N, 5) tensor, or anything that `torch.as_tensor` takes; may be empty."""
        self.tensor = as_box_tensor(tensor, 5)

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring all angles into [-180, 180), in place."""
        self.tensor[:, 4] = (self.tensor[:, 4] + 180.0) % 360.0 - 180.0

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Clip nearly upright boxes to an image of `box_size` (height, width), in place.

        Only boxes within `clip_angle_threshold` degrees of horizontal are clipped, as if they
        were upright; no box grows. Any other box would no longer be a rectangle when clipped;
        the model can learn to keep these inside. Angles are normalized as well.
        """
        height, width = box_size
        self.normalize_angles()
        rows = self.tensor[:, 4].abs() <= clip_angle_threshold
        center, size = self.tensor[:, :2], self.tensor[:, 2:4]
        limit = size.new_tensor([width, height])
        low = (center - size / 2).clamp(min=0).minimum(limit)
        high = (center + size / 2).clamp(min=0).minimum(limit)
        clipped = torch.cat(((low + high) / 2, torch.minimum(size, high - low)), dim=1)
        self.tensor[:, :4] = torch.where(rows[:, None], clipped, self.tensor[:, :4])

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: whether both sides are longer than `threshold` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return (N,) bool: whether a box is inside (height, width), extended by the threshold.

        The rightmost and the lowest corner must stay strictly below the limit.
        """
        height, width = box_size
        reach = half_extent(self.tensor)
        low, high = self.tensor[:, :2] - reach, self.tensor[:, :2] + reach
        near = (low >= -boundary_threshold).all(dim=1)
        x, y = high.unbind(dim=1)
        return near & (x < width + boundary_threshold) & (y < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """Return (N, 2) centers (x, y)."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale the image under the boxes by one factor per axis, in place.

        With unequal factors a rotated box becomes a parallelogram. What is kept is the
        rectangle whose width and height are the lengths of its scaled sides and whose angle
        is that of the scaled height axis.
        """
        angle = torch.deg2rad(self.tensor[:, 4])
        cos, sin = angle.cos(), angle.sin()
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        self.tensor[:, 2] *= torch.hypot(scale_x * cos, scale_y * sin)
        self.tensor[:, 3] *= torch.hypot(scale_x * sin, scale_y * cos)
        self.tensor[:, 4] = torch.rad2deg(torch.atan2(scale_x * sin, scale_y * cos))

    def _iou_with(self, others: "RotatedBoxes") -> Tensor:
        return pairwise_iou_rotated(self.tensor, others.tensor)


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """Return the (N, M) intersection over union of two sets of rotated boxes."""
    return boxes1._iou_with(boxes2)
