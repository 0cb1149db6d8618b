"""Axis-aligned boxes: their modes, the `Boxes` container, and overlaps between sets of boxes.

Coordinates are continuous: a box from 0 to 10 is 10 wide, and pixel i covers [i, i + 1).
"""

from collections.abc import Callable, Iterator
from enum import IntEnum, unique

import numpy as np
import torch
from torch import Tensor

RawBoxes = list[float] | tuple[float, ...] | Tensor | np.ndarray


@unique
class BoxMode(IntEnum):
    """The format of a box."""

    XYXY_ABS = 0
    """(x0, y0, x1, y1) in pixels."""
    XYWH_ABS = 1
    """(x0, y0, width, height) in pixels."""
    XYXY_REL = 2
    """(x0, y0, x1, y1) as fractions of the image size; cannot be converted."""
    XYWH_REL = 3
    """(x0, y0, width, height) as fractions of the image size; cannot be converted."""
    XYWHA_ABS = 4
    """(center x, center y, width, height, degrees counter-clockwise) in pixels."""

    @staticmethod
    def convert(box: RawBoxes, from_mode: "BoxMode", to_mode: "BoxMode") -> RawBoxes:
        """Convert a box or an (N, D) array of boxes to another mode.

        Args:
            box: a list or tuple of D numbers, or a tensor or array of shape (..., D);
                D is 5 for XYWHA_ABS and 4 for the other modes.

        Returns:
            The same type as `box`; a copy unless the modes are equal. Integers in a list stay
            integers between XYXY_ABS and XYWH_ABS.

        Raises:
            AssertionError: a mode is relative, or D does not match `from_mode`.
            NotImplementedError: these modes cannot be converted.
        """
        if from_mode == to_mode:
            return box
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        relative = {BoxMode.XYXY_REL, BoxMode.XYWH_REL}
        assert not relative & {from_mode, to_mode}, (
            f"cannot convert {from_mode.name} to {to_mode.name}: a relative mode needs the size of "
            "the image; multiply by it first"
        )
        if (from_mode, to_mode) not in _CONVERSIONS:
            known = ", ".join(f"{a.name} to {b.name}" for a, b in _CONVERSIONS)
            raise NotImplementedError(
                f"cannot convert {from_mode.name} to {to_mode.name}; use one of: {known}"
            )
        assert not isinstance(box, list | tuple) or all(np.ndim(x) == 0 for x in box), (
            "BoxMode.convert takes a list for a single box only; use an array for several boxes"
        )
        tensor = _as_tensor(box)
        width = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        assert tensor.shape[-1] == width, (
            f"a {from_mode.name} box has {width} numbers, found shape {tuple(tensor.shape)}"
        )
        converted = _CONVERSIONS[from_mode, to_mode](tensor)
        if isinstance(box, list | tuple):
            are_whole = len(box) == converted.numel() and all(isinstance(x, int) for x in box)
            return type(box)((converted.long() if are_whole else converted).tolist())
        return converted.numpy() if isinstance(box, np.ndarray) else converted


def _as_tensor(box: RawBoxes) -> Tensor:
    if isinstance(box, Tensor):
        return box
    if isinstance(box, np.ndarray):
        return torch.from_numpy(box)
    # Annotations in json are doubles; single precision would change them.
    return torch.tensor(box, dtype=torch.float64)


def _xyxy_to_xywh(box: Tensor) -> Tensor:
    return torch.cat((box[..., :2], box[..., 2:] - box[..., :2]), dim=-1)


def _xywh_to_xyxy(box: Tensor) -> Tensor:
    return torch.cat((box[..., :2], box[..., :2] + box[..., 2:]), dim=-1)


def _xywh_to_xywha(box: Tensor) -> Tensor:
    center = box[..., :2] + box[..., 2:] / 2
    return torch.cat((center, box[..., 2:], torch.zeros_like(box[..., :1])), dim=-1).to(box.dtype)


def _xywha_to_xyxy(box: Tensor) -> Tensor:
    """Return the smallest axis-aligned box around each rotated one."""
    exact = box.double()
    center, size = exact[..., :2], exact[..., 2:4]
    angle = torch.deg2rad(exact[..., 4:])
    cos, sin = angle.cos().abs(), angle.sin().abs()
    half = (size * cos + size.flip(-1) * sin) / 2
    return torch.cat((center - half, center + half), dim=-1).to(box.dtype)


_CONVERSIONS: dict[tuple[BoxMode, BoxMode], Callable[[Tensor], Tensor]] = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _xyxy_to_xywh,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _xywh_to_xyxy,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _xywh_to_xywha,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _xywha_to_xyxy,
}


class Boxes:
    """N boxes as one (N, 4) float32 tensor of (x0, y0, x1, y1) in absolute pixels.

    Attributes:
        tensor: the (N, 4) float32 tensor itself.
    """

    def __init__(self, tensor: Tensor):
        """tensor: (N, 4) tensor, or anything that `torch.as_tensor` accepts; may be empty."""
        self.tensor = as_box_tensor(tensor, 4)

    def clone(self) -> "Boxes":
        """Return a copy, including the tensor."""
        return type(self)(self.tensor.clone())

    def to(self, device: torch.device, non_blocking: bool = False) -> "Boxes":
        """Return the same boxes on `device`."""
        return type(self)(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels; negative if exactly one side is negative."""
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        return (x1 - x0) * (y1 - y0)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip all corners to an image of `box_size` (height, width), in place.

        Raises:
            AssertionError: a coordinate is infinite or nan.
        """
        assert torch.isfinite(self.tensor).all(), "Boxes.clip: boxes have infinite or nan values"
        height, width = box_size
        x = self.tensor[:, 0::2].clamp(min=0, max=width)  # (N, 2): left, right
        y = self.tensor[:, 1::2].clamp(min=0, max=height)  # (N, 2): top, bottom
        self.tensor = torch.stack((x, y), dim=2).flatten(1)  # (N, 4)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: whether both sides are longer than `threshold` pixels."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def __getitem__(self, item: int | slice | Tensor) -> "Boxes":
        """Select by an index (one box), a slice, or a bool or integer tensor.

        The result shares memory with this object if indexing a tensor in this way does.
        """
        return type(self)(select_rows(self.tensor, item))

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return (N,) bool: whether a box is inside (height, width), extended by the threshold.

        The right and the bottom edge must be strictly below the limit.
        """
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        near = torch.minimum(x0, y0) >= -boundary_threshold
        return near & (x1 < width + boundary_threshold) & (y1 < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """Return (N, 2) centers (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply the coordinates by one factor per axis, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """Concatenate the boxes of a list; an empty list gives no boxes."""
        name = cls.__name__
        assert isinstance(boxes_list, list | tuple), f"{name}.cat takes a list of {name}"
        if not boxes_list:
            return cls(torch.empty(0))
        assert all(isinstance(boxes, cls) for boxes in boxes_list), f"not a list of {name}"
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]))

    def _iou_with(self, others: "Boxes") -> Tensor:
        shared = pairwise_intersection(self, others)
        return _ratio(shared, self.area()[:, None] + others.area() - shared)

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __iter__(self) -> Iterator[Tensor]:
        """Yield one (4,) tensor per box, or (5,) for rotated boxes."""
        yield from self.tensor


def as_box_tensor(boxes: Tensor, box_dim: int) -> Tensor:
    """Convert `boxes` to an (N, box_dim) float32 tensor; an empty one gets that shape.

    Raises:
        AssertionError: `boxes` has another shape.
    """
    if not isinstance(boxes, Tensor):
        boxes = torch.as_tensor(boxes, dtype=torch.float32)
    boxes = boxes.to(torch.float32)
    if boxes.dim() != 2 and boxes.numel() == 0:
        boxes = boxes.reshape(-1, box_dim)
    assert boxes.dim() == 2 and boxes.shape[-1] == box_dim, (
        f"boxes must have shape (N, {box_dim}), found {tuple(boxes.shape)}"
    )
    return boxes


def select_rows(rows: Tensor, item: int | slice | Tensor) -> Tensor:
    """Return `rows[item]`; an integer keeps the first axis, so the number of axes stays the
    same."""
    if isinstance(item, int):
        return rows[item].unsqueeze(0)
    selected = rows[item]
    assert selected.dim() == rows.dim(), (
        f"indexing {rows.shape[0]} rows with {item!r} gives {selected.dim()} axes; select rows only"
    )
    return selected


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return the (N, M) intersection areas of N and M boxes; 0 if they don't overlap."""
    first = boxes1.tensor.unsqueeze(2)  # (N, 4, 1)
    second = boxes2.tensor.t().contiguous()  # (4, M)
    width = torch.minimum(first[:, 2], second[2]).sub_(torch.maximum(first[:, 0], second[0]))
    height = torch.minimum(first[:, 3], second[3]).sub_(torch.maximum(first[:, 1], second[1]))
    return width.clamp_(min=0).mul_(height.clamp_(min=0))  # (N, M)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return the (N, M) intersection over union; 0 if boxes don't overlap or are empty.

    Two sets of RotatedBoxes work too, so code that labels boxes need not distinguish them.
    """
    return boxes1._iou_with(boxes2)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return the (N, M) fractions of the area of `boxes2` inside `boxes1`; 0 for empty boxes."""
    return _ratio(pairwise_intersection(boxes1, boxes2), boxes2.area())


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Return (N, M, 4) distances of N points (N, 2) to the left, top, right and bottom edges of M
    boxes.

    All four are positive if and only if the point is inside the box.
    """
    points = points.unsqueeze(1)  # (N, 1, 2)
    return torch.cat((points - boxes.tensor[:, :2], boxes.tensor[:, 2:] - points), dim=2)


def _ratio(shared: Tensor, whole: Tensor) -> Tensor:
    """Return shared / whole, or 0 if nothing is shared (`whole` may then be 0 too)."""
    return torch.where(shared > 0, shared / whole, 0.0)
