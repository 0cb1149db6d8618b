"""Mask heads: one mask per detected object (Mask R-CNN, He et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, conv_with_norm
from d2lite.structures import Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import has_event_storage, is_time_to_draw, log_image, log_scalar
from d2lite.utils.registry import Registry

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD", config_key="MODEL.ROI_MASK_HEAD.NAME")
ROI_MASK_HEAD_REGISTRY.__doc__ = """Callables (cfg, input_shape: ShapeSpec) -> nn.Module.

The module is called with pooled features (R, C, H, W) and a list of Instances with R objects in
all; it returns losses in training and the instances with `pred_masks` otherwise.
"""


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head named by MODEL.ROI_MASK_HEAD.NAME."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)


def mask_rcnn_loss(
    pred_mask_logits: Tensor, instances: list[Instances], vis_period: int = 0
) -> Tensor:
    """Return the mean binary cross entropy of each object's mask, predicted for its true class.

    Args:
        pred_mask_logits: (R, K, M, M), or (R, 1, M, M) if all classes share one mask.
        instances: per image, with `gt_masks`, `proposal_boxes` and, unless all classes share
            one mask, `gt_classes`; R in all.
        vis_period: iterations between images of masks in the event storage; 0 for none.
    """
    side = pred_mask_logits.shape[2]
    if pred_mask_logits.shape[3] != side:
        raise ArgumentError(f"masks must be square, not {tuple(pred_mask_logits.shape[2:])}")
    occupied = [x for x in instances if len(x) > 0]
    if not occupied:
        return pred_mask_logits.sum() * 0.0
    gt_masks = cat(
        [x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side) for x in occupied]
    ).to(pred_mask_logits.device)  # (R, M, M)
    logits = _masks_of_classes(pred_mask_logits, occupied, "gt_classes")
    _log_mask_stats(logits, gt_masks.to(torch.bool))
    if is_time_to_draw(vis_period):
        pairs = torch.cat([logits.detach().sigmoid(), gt_masks.to(logits.dtype)], dim=2)
        for i, pair in enumerate(pairs):
            log_image(f"Left: mask prediction;   Right: mask GT ({i})", pair.expand(3, -1, -1))
    return F.binary_cross_entropy_with_logits(logits, gt_masks.to(torch.float32))


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Add `pred_masks` to the instances: (Ri, 1, M, M) probabilities of the predicted class.

    Args:
        pred_mask_logits: (R, K, M, M), or (R, 1, M, M) if all classes share one mask.
        pred_instances: per image, with `pred_classes` unless all classes share one mask; R in
            all.
    """
    logits = _masks_of_classes(pred_mask_logits, pred_instances, "pred_classes")
    probabilities = logits[:, None].sigmoid()
    for masks, x in zip(
        probabilities.split([len(x) for x in pred_instances]), pred_instances, strict=True
    ):
        x.pred_masks = masks


class BaseMaskRCNNHead(nn.Module):
    """Base class of mask heads: loss and inference. Subclasses define `layers`."""

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0):
        """vis_period: iterations between images in the event storage; 0 for none."""
        super().__init__()
        self.vis_period = vis_period
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read VIS_PERIOD."""
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Return the losses in training; otherwise the instances with `pred_masks`.

        Args:
            x: (R, C, H, W) pooled features of the objects in `instances`.
            instances: per image; see `mask_rcnn_loss` and `mask_rcnn_inference`.
        """
        logits = self.layers(x)
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) features -> (R, K or 1, M, M) logits."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):
    """3x3 convolutions, upsampling by 2, and one mask per class (Mask R-CNN, fig. 4)."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        **kwargs,
    ):
        """Describe the layers.

        Args:
            num_classes: masks per object; 1 if all classes share one.
            conv_dims: channels of the convolutions, followed by those of the upsampling.
            conv_norm: norm of the convolutions, see `layers.get_norm`.
            kwargs: passed to BaseMaskRCNNHead.
        Raises:
            ValueError: `conv_dims` is empty.
        """
        super().__init__(**kwargs)
        if not conv_dims:
            raise ArgumentError("conv_dims needs at least the width of the upsampling layer")
        self.conv_norm_relus = []
        in_channels = input_shape.channels
        for k, width in enumerate(conv_dims[:-1], 1):
            conv = conv_with_norm(
                in_channels, width, norm=conv_norm, activation=nn.ReLU(inplace=True)
            )
            self.add_module(f"mask_fcn{k}", conv)
            self.conv_norm_relus.append(conv)
            in_channels = width
        self.deconv = ConvTranspose2d(in_channels, conv_dims[-1], kernel_size=2, stride=2)
        self.add_module("deconv_relu", nn.ReLU(inplace=True))
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)

        for layer in (*self.conv_norm_relus, self.deconv):
            weight_init.c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Use equal widths for all convolutions and the upsampling."""
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> (R, num_classes, 2H, 2W) logits."""
        for layer in self:
            x = layer(x)
        return x


def _masks_of_classes(logits: Tensor, instances: list[Instances], name: str) -> Tensor:
    """(R, K or 1, M, M) -> (R, M, M), for the classes in field `name` of R instances in all."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    classes = cat([x.get(name) for x in instances])
    return logits[torch.arange(len(logits), device=logits.device), classes]


@torch.no_grad()
def _log_mask_stats(logits: Tensor, gt_masks: Tensor) -> None:
    """Log the fractions of wrong pixels: of all, of the background, of the foreground."""
    if not has_event_storage():
        return
    wrong = (logits > 0) != gt_masks
    counts = [wrong.sum(), gt_masks.sum(), (wrong & gt_masks).sum()]
    num_wrong, num_positive, num_missed = torch.stack(counts).tolist()
    num_negative = gt_masks.numel() - num_positive
    log_scalar("mask_rcnn/accuracy", 1 - num_wrong / max(gt_masks.numel(), 1))
    log_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / max(num_negative, 1))
    log_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1))
