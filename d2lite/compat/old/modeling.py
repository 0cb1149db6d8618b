"""Private helpers of detectron2's models, and classes of its older versions."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.layers import CNNBlockBase, cat, get_norm
from d2lite.modeling.backbone import ResNet
from d2lite.modeling.backbone.regnet_blocks import conv2d
from d2lite.modeling.backbone.utils import decomposed_rel_pos
from d2lite.modeling.box_regression import Box2BoxTransform, dense_box_regression_loss
from d2lite.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from d2lite.modeling.roi_heads.fast_rcnn import _log_classification_stats, fast_rcnn_inference
from d2lite.structures import Boxes, Instances


def _assert_strides_are_log2_contiguous(strides: Sequence[int]) -> None:
    """Raise AssertionError unless every stride is twice the previous one."""
    for before, stride in pairwise(strides):
        assert stride == 2 * before, f"Strides {stride} {before} are not log2 contiguous"


def _fmt_box_list(box_tensor: Tensor, batch_index: int) -> Tensor:
    """Prepend the index of the image to (R, B) boxes: (R, 1 + B)."""
    return torch.cat([torch.full_like(box_tensor[:, :1], batch_index), box_tensor], dim=1)


def _create_zeros(
    batch_target: Tensor | None,
    channels: int,
    height: int,
    width: int,
    like_tensor: Tensor,
) -> Tensor:
    """Return zeros (R, channels, height, width); R is the length of `batch_target`, 0 for None."""
    rows = 0 if batch_target is None else batch_target.shape[0]
    return like_tensor.new_zeros(rows, channels, height, width, dtype=torch.float32)


def permute_all_cls_and_box_to_N_HWA_K_and_concat(
    box_cls: list[Tensor], box_delta: list[Tensor], num_classes: int = 80
) -> tuple[Tensor, Tensor]:
    """Join the predictions of all levels: (N * R, K) class logits and (N * R, 4) deltas.

    Args:
        box_cls: per level, (N, A * K, Hi, Wi).
        box_delta: per level, (N, A * 4, Hi, Wi).
        num_classes: K.
    """
    return tuple(
        cat([permute_to_N_HWA_K(x, k) for x in levels], dim=1).reshape(-1, k)
        for levels, k in ((box_cls, num_classes), (box_delta, 4))
    )


def _is_tracing() -> bool:
    """Return whether torch.jit.trace is running."""
    return torch.jit.is_tracing()


def _create_grid_offsets(
    size: Sequence[int], stride: int, offset: float, target_device_tensor: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x and y of every cell of an (H, W) grid, row by row: two (H*W,) tensors in pixels.

    Args:
        offset: of the first cell, in strides.
        target_device_tensor: on the wanted device.
    """
    height, width = size
    y, x = (
        (torch.arange(cells, dtype=torch.float32, device=target_device_tensor.device) + offset)
        * stride
        for cells in (height, width)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _broadcast_params(params: Sequence, num_features: int, name: str) -> Sequence:
    """Return one list of parameters for each level, repeating it if only one is given.

    Args:
        params: a list of lists, or one list for all levels.
        name: of the parameter, for the message.
    """
    assert isinstance(params, list | tuple), f"{name} must be a list, not {params}"
    assert len(params), f"{name} is empty"
    if not isinstance(params[0], list | tuple):
        return [params] * num_features
    if len(params) == 1:
        return list(params) * num_features
    assert len(params) == num_features, (
        f"{name} has {len(params)} elements, but there are {num_features} input features"
    )
    return params


def make_stage(*args: Any, **kwargs: Any) -> list[CNNBlockBase]:
    """Call `ResNet.make_stage`."""
    return ResNet.make_stage(*args, **kwargs)


class VanillaBlock(CNNBlockBase):
    """Two 3 x 3 convolutions without a shortcut."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: str | Callable,
        activation_class: Callable[[], nn.Module],
        _params: dict,
    ):
        super().__init__(w_in, w_out, stride)
        self.a = conv2d(w_in, w_out, 3, stride=stride)
        self.a_bn = get_norm(norm, w_out)
        self.a_af = activation_class()
        self.b = conv2d(w_out, w_out, 3)
        self.b_bn = get_norm(norm, w_out)
        self.b_af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, w_in, H, W) to (N, w_out, H / stride, W / stride)."""
        for layer in self.children():
            x = layer(x)
        return x


class FastRCNNOutputs:
    """Losses and detections of a Fast R-CNN head, as before detectron2 0.5.

    `FastRCNNOutputLayers` has its own `losses` and `inference`, and does not use this class.
    """

    def __init__(
        self,
        box2box_transform: Box2BoxTransform,
        pred_class_logits: Tensor,
        pred_proposal_deltas: Tensor,
        proposals: list[Instances],
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
    ):
        """
        Args:
            pred_class_logits: (R, K + 1).
            pred_proposal_deltas: (R, K * B) or (R, B).
            proposals: per image, with `proposal_boxes` and in training `gt_boxes` and
                `gt_classes`.
        """
        self.box2box_transform = box2box_transform
        self.num_preds_per_image = [len(p) for p in proposals]
        self.pred_class_logits = pred_class_logits
        self.pred_proposal_deltas = pred_proposal_deltas
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.image_shapes = [p.image_size for p in proposals]
        if proposals:
            kind: Any = type(proposals[0].proposal_boxes)
            self.proposals = kind.cat([p.proposal_boxes for p in proposals])
            if proposals[0].has("gt_boxes"):
                self.gt_boxes = kind.cat([p.gt_boxes for p in proposals])
            if proposals[0].has("gt_classes"):
                self.gt_classes = cat([p.gt_classes for p in proposals])
        else:
            self.proposals = Boxes(pred_proposal_deltas.new_zeros(0, 4))
        self._no_instances = len(self.proposals) == 0

    def softmax_cross_entropy_loss(self) -> Tensor:
        """Return the classification loss, and log how many proposals are classified correctly."""
        if self._no_instances:
            return 0.0 * self.pred_class_logits.sum()
        self._log_accuracy()
        return F.cross_entropy(self.pred_class_logits, self.gt_classes, reduction="mean")

    def _log_accuracy(self) -> None:
        _log_classification_stats(self.pred_class_logits, self.gt_classes)

    def box_reg_loss(self) -> Tensor:
        """Return the box loss of the foreground, divided by the number of all proposals."""
        if self._no_instances:
            return 0.0 * self.pred_proposal_deltas.sum()
        box_dim = self.proposals.tensor.shape[1]
        num_classes = self.pred_class_logits.shape[1] - 1
        foreground = ((self.gt_classes >= 0) & (self.gt_classes < num_classes)).nonzero()[:, 0]
        deltas = self.pred_proposal_deltas
        if deltas.shape[1] == box_dim:
            deltas = deltas[foreground]
        else:
            by_class = deltas.view(-1, num_classes, box_dim)
            deltas = by_class[foreground, self.gt_classes[foreground]]
        loss = dense_box_regression_loss(
            [self.proposals.tensor[foreground]],
            self.box2box_transform,
            [deltas[None]],
            [self.gt_boxes.tensor[foreground]],
            ...,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / self.gt_classes.numel()

    def losses(self) -> dict[str, Tensor]:
        """Return "loss_cls" and "loss_box_reg"."""
        return {
            "loss_cls": self.softmax_cross_entropy_loss(),
            "loss_box_reg": self.box_reg_loss(),
        }

    def predict_boxes(self) -> tuple[Tensor, ...]:
        """Return (Ri, K * B) or (Ri, B) decoded boxes of each image."""
        boxes = self.box2box_transform.apply_deltas(
            self.pred_proposal_deltas, self.proposals.tensor
        )
        return boxes.split(self.num_preds_per_image)

    def predict_probs(self) -> tuple[Tensor, ...]:
        """Return (Ri, K + 1) probabilities of each image."""
        return F.softmax(self.pred_class_logits, dim=-1).split(self.num_preds_per_image)

    def inference(
        self, score_thresh: float, nms_thresh: float, topk_per_image: int
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of each image, see `fast_rcnn_inference`."""
        return fast_rcnn_inference(
            list(self.predict_boxes()),
            list(self.predict_probs()),
            self.image_shapes,
            score_thresh,
            nms_thresh,
            topk_per_image,
        )


def _as_tensor(x: tuple[int, int] | Tensor) -> Tensor:
    """Return an image size (height, width), of numbers or of two tensors, as a tensor."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, list | tuple) and all(isinstance(t, Tensor) for t in x):
        return torch.stack(list(x))
    return torch.as_tensor(x)


def add_decomposed_rel_pos(
    attn: Tensor,
    q: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> Tensor:
    """Add relative positions along the two axes to attention logits (MViTv2, eq. 4 and 5).

    Args:
        attn: (B, q_h * q_w, k_h * k_w) logits.
        q: (B, q_h * q_w, C) queries.
        rel_pos_h, rel_pos_w: (D, C) embeddings by distance.
        q_size, k_size: (H, W) of queries and keys.
    Returns:
        Logits of the shape of `attn`.
    """
    return attn + decomposed_rel_pos(q, rel_pos_h, rel_pos_w, q_size, k_size)
