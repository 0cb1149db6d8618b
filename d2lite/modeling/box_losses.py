"""The box regression losses by name, for every head that predicts deltas."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from d2lite.layers import ciou_loss, diou_loss, giou_loss
from d2lite.layers.losses import smooth_l1_loss
from d2lite.utils.registry import check_choice

IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}

BoxLoss = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def box_loss(name: str, smooth_l1_beta: float = 0.0) -> BoxLoss:
    """The loss called `name`: a picklable function of (transform, source, deltas, gt).

    The function takes a box coder with `get_deltas` and `apply_deltas`, R source boxes (anchors or
    proposals), R predicted deltas and R ground-truth boxes, each (R, B), and gives the sum of the
    R losses. "smooth_l1" compares deltas; "giou", "diou" and "ciou" compare decoded boxes.

    Raises:
        ValueError: for an unknown name.
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
