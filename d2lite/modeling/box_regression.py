"""Boxes as deltas from other boxes and back, and the losses on them by name."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from d2lite.layers import cat, ciou_loss, diou_loss, giou_loss
from d2lite.layers.losses import smooth_l1_loss
from d2lite.structures import Boxes
from d2lite.utils.registry import check_choice

# Largest factor, in log space, by which a decoded side may differ from the source's: a wild
# prediction must not overflow exp(). 1000 / 16 is a whole image over the smallest anchor.
DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


class Box2BoxTransform:
    """Deltas of R-CNN (Girshick et al., appendix C): (dx, dy, dw, dh).

    A box moves by dx * width and dy * height, and its sides are multiplied by exp(dw) and exp(dh).
    So equal deltas mean the same for small and large boxes, and decoded sides are never negative.
    """

    def __init__(
        self, weights: tuple[float, float, float, float], scale_clamp: float = DEFAULT_SCALE_CLAMP
    ):
        """weights: factors on (dx, dy, dw, dh), which bring them near unit variance, so that the
            box loss weighs about as much as the class loss (Fast R-CNN, sec. 2.3).
        scale_clamp: dw and dh are cut off here when decoding."""
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Encode (N, 4) XYXY `target_boxes` as (N, 4) deltas from `src_boxes` (eq. 6-9).

        Raises:
            AssertionError: a source box has a width of 0 or less.
        """
        src_size = src_boxes[:, 2:] - src_boxes[:, :2]
        target_size = target_boxes[:, 2:] - target_boxes[:, :2]
        _check_extent(src_size)
        src_center = src_boxes[:, :2] + 0.5 * src_size
        target_center = target_boxes[:, :2] + 0.5 * target_size
        shift = (target_center - src_center) / src_size
        growth = torch.log(target_size / src_size)
        return torch.cat((shift, growth), dim=1) * shift.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, k*4) deltas, k of them per box, from (N, 4) boxes to (N, k*4) boxes.

        The inverse of `get_deltas` (eq. 1-4); k is the number of classes, or 1 if they share
        the deltas.

        Always computed in float32, because half precision would move corners by pixels.
        """
        deltas = deltas.float()
        boxes = boxes.to(deltas.dtype).unsqueeze(1)  # (N, 1, 4)
        size = boxes[..., 2:] - boxes[..., :2]
        center = boxes[..., :2] + 0.5 * size
        scaled = deltas.unflatten(1, (-1, 4)) / deltas.new_tensor(self.weights)  # (N, k, 4)
        center = center + scaled[..., :2] * size
        half = 0.5 * size * scaled[..., 2:].clamp(max=self.scale_clamp).exp()
        return torch.cat((center - half, center + half), dim=2).flatten(1)  # (N, k*4)


class Box2BoxTransformRotated:
    """Deltas between rotated boxes (RRPN, sec. 4): (dx, dy, dw, dh, da).

    The first four are those of `Box2BoxTransform`, measured along the axes of the image; da is
    the difference of the angles in radians.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float, float],
        scale_clamp: float = DEFAULT_SCALE_CLAMP,
    ):
        """weights: factors on (dx, dy, dw, dh, da).
        scale_clamp: dw and dh are cut off here when decoding."""
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Encode (N, 5) `target_boxes` as (N, 5) deltas from `src_boxes`; angles are in degrees.

        Raises:
            AssertionError: a source box has a width of 0 or less.
        """
        assert src_boxes.shape == target_boxes.shape, (src_boxes.shape, target_boxes.shape)
        src_size, target_size = src_boxes[:, 2:4], target_boxes[:, 2:4]
        _check_extent(src_size)
        shift = (target_boxes[:, :2] - src_boxes[:, :2]) / src_size
        growth = torch.log(target_size / src_size)
        # The shorter way around: 170 and -170 degrees differ by 20.
        turn = torch.deg2rad(_wrap_degrees(target_boxes[:, 4:] - src_boxes[:, 4:]))
        return torch.cat((shift, growth, turn), dim=1) * shift.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, k*5) deltas, k per box, from (N, 5) boxes; angles come out in [-180, 180)."""
        deltas = deltas.float()
        boxes = boxes.to(deltas.dtype).unsqueeze(1)  # (N, 1, 5)
        size = boxes[..., 2:4]
        scaled = deltas.unflatten(1, (-1, 5)) / deltas.new_tensor(self.weights)  # (N, k, 5)
        center = boxes[..., :2] + scaled[..., :2] * size
        new_size = size * scaled[..., 2:4].clamp(max=self.scale_clamp).exp()
        angle = _wrap_degrees(boxes[..., 4:] + torch.rad2deg(scaled[..., 4:]))
        return torch.cat((center, new_size, angle), dim=2).flatten(1)  # (N, k*5)


class Box2BoxTransformLinear:
    """Distances from the center of a box to the four edges of another (FCOS, eq. 1)."""

    def __init__(self, normalize_by_size: bool = True):
        """normalize_by_size: measure in widths and heights of the source box, not in pixels."""
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (N, 4) distances to the left, top, right and bottom edges of `target_boxes`."""
        center = (src_boxes[:, :2] + src_boxes[:, 2:]) / 2
        ltrb = torch.cat((center - target_boxes[:, :2], target_boxes[:, 2:] - center), dim=1)
        return ltrb / self._unit(src_boxes)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return (N, 4) boxes from (N, 4) distances; negative distances count as 0."""
        # A negative distance would put the center outside of its own box.
        ltrb = F.relu(deltas)
        boxes = boxes.to(deltas.dtype)
        ltrb = ltrb * self._unit(boxes)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        return torch.cat((center - ltrb[:, :2], center + ltrb[:, 2:]), dim=1)

    def _unit(self, boxes: Tensor) -> Tensor | float:
        if not self.normalize_by_size:
            return 1.0
        return (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (N, 4): w, h, w, h


BoxCoder = Box2BoxTransform | Box2BoxTransformRotated | Box2BoxTransformLinear

BoxLoss = Callable[[Any, Tensor, Tensor, Tensor], Tensor]

IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def box_loss(name: str, smooth_l1_beta: float = 0.0) -> BoxLoss:
    """Return the loss called `name`: a picklable function of (transform, source, deltas, gt).

    The function takes a box coder with `get_deltas` and `apply_deltas`, R source boxes (anchors or
    proposals), R predicted deltas and R ground-truth boxes, each (R, B), and returns the sum of
    the R losses. "smooth_l1" compares the deltas one by one; "giou", "diou" and "ciou" compare
    whole decoded boxes.

    Raises:
        ValueError: the name is unknown.
    """
    choices = ["smooth_l1", *IOU_LOSSES]
    check_choice("box_reg_loss_type (BBOX_REG_LOSS_TYPE)", name, choices)
    if name == "smooth_l1":
        return partial(_loss_on_deltas, beta=smooth_l1_beta)
    return partial(_loss_on_boxes, loss=IOU_LOSSES[name])


def _loss_on_deltas(
    transform: Any, source: Tensor, deltas: Tensor, gt: Tensor, *, beta: float
) -> Tensor:
    return smooth_l1_loss(deltas, transform.get_deltas(source, gt), beta, reduction="sum")


def _loss_on_boxes(
    transform: Any, source: Tensor, deltas: Tensor, gt: Tensor, *, loss: Callable
) -> Tensor:
    return loss(transform.apply_deltas(deltas, source), gt, reduction="sum")


def dense_box_regression_loss(
    anchors: list[Boxes | Tensor],
    box2box_transform: BoxCoder,
    pred_anchor_deltas: list[Tensor],
    gt_boxes: list[Tensor],
    fg_mask: Any,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Return the box loss of the foreground anchors of N images, summed.

    Args:
        anchors: L levels of (HWA, D) anchors, R in all, the same for every image.
        pred_anchor_deltas: L levels of (N, HWA, D) deltas.
        gt_boxes: per image, (R, D): the target box of each anchor.
        fg_mask: (N, R) bool: which anchors count; or another index into (N, R), such as `...`.
        box_reg_loss_type, smooth_l1_beta: see `box_loss`.

    Returns:
        A scalar; 0 with finite gradients where no anchor is foreground.
    """
    loss = box_loss(box_reg_loss_type, smooth_l1_beta)
    all_anchors = cat([a.tensor if isinstance(a, Boxes) else a for a in anchors])  # (R, D)
    if not isinstance(fg_mask, Tensor):
        indexed = all_anchors.new_zeros(len(gt_boxes), len(all_anchors), dtype=torch.bool)
        indexed[fg_mask] = True
        fg_mask = indexed
    # Few anchors are foreground, dozens out of hundreds of thousands: pick them before any
    # arithmetic.
    image, anchor = fg_mask.nonzero(as_tuple=True)
    targets = torch.stack(gt_boxes)[image, anchor]
    pred_deltas = cat(pred_anchor_deltas, dim=1)[image, anchor]
    return loss(box2box_transform, all_anchors[anchor], pred_deltas, targets)


def _check_extent(size: Tensor) -> None:
    assert (size[:, 0] > 0).all(), "source boxes must be wider than 0; filter empty ones out first"


def _wrap_degrees(angle: Tensor) -> Tensor:
    """Return the angles wrapped to [-180, 180)."""
    return (angle + 180.0) % 360.0 - 180.0
