"""Keypoint heads: one heat map for each keypoint of a person (Mask R-CNN, He et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat
from d2lite.structures import Instances, heatmaps_to_keypoints
from d2lite.utils.events import get_event_storage, has_event_storage
from d2lite.utils.registry import Registry

ROI_KEYPOINT_HEAD_REGISTRY = Registry(
    "ROI_KEYPOINT_HEAD", config_key="MODEL.ROI_KEYPOINT_HEAD.NAME"
)
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = """Callables (cfg, input_shape: ShapeSpec) -> nn.Module.

The module is called with pooled features (R, C, H, W) and a list of Instances with R objects in
all; it returns losses in training and the instances with `pred_keypoints` otherwise.
"""


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head named by MODEL.ROI_KEYPOINT_HEAD.NAME."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: list[Instances], normalizer: float | None
) -> Tensor:
    """Return the cross entropy between each heat map, as a softmax over its cells, and the cell of
    the true keypoint (Mask R-CNN, sec. 5).

    Args:
        pred_keypoint_logits: (R, K, S, S) heat maps of K keypoints.
        instances: per image, with `gt_keypoints` and `proposal_boxes`; R in all.
        normalizer: divisor of the sum; None for the number of visible keypoints.
    Returns:
        The loss; 0, with a gradient, if no keypoint is visible.
    """
    num_maps, side = pred_keypoint_logits.shape[:2].numel(), pred_keypoint_logits.shape[2]
    occupied = [x for x in instances if len(x) > 0]
    if not occupied:
        return _loss_of_nothing(pred_keypoint_logits)
    targets = [x.gt_keypoints.to_heatmap(x.proposal_boxes.tensor, side) for x in occupied]
    cells = cat([cell.flatten() for cell, _ in targets])  # (R * K,)
    visible = cat([valid.flatten() for _, valid in targets]).to(torch.bool).nonzero()[:, 0]
    if len(visible) == 0:
        return _loss_of_nothing(pred_keypoint_logits)
    logits = pred_keypoint_logits.reshape(num_maps, side * side)
    loss = F.cross_entropy(logits[visible], cells[visible], reduction="sum")
    return loss / (len(visible) if normalizer is None else normalizer)


def _loss_of_nothing(pred_keypoint_logits: Tensor) -> Tensor:
    """Return zero with a gradient, and log the number of batches without visible keypoints."""
    if has_event_storage():
        name, storage = "kpts_num_skipped_batches", get_event_storage()
        skipped_before, _ = storage.latest().get(name, (0, 0))
        storage.put_scalar(name, skipped_before + 1, smoothing_hint=False)
    return pred_keypoint_logits.sum() * 0.0


def keypoint_rcnn_inference(pred_keypoint_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Add keypoints to the instances, in place.

    Adds `pred_keypoints`, (Ri, K, 3) of x and y in pixels and a score, and
    `pred_keypoint_heatmaps`, (Ri, K, S, S) logits.

    Args:
        pred_keypoint_logits: (R, K, S, S).
        pred_instances: per image, with `pred_boxes`; R in all.
    """
    boxes = cat([x.pred_boxes.tensor for x in pred_instances])
    heatmaps = pred_keypoint_logits.detach()
    # (R, K, 4): x, y, logit, probability
    keypoints = heatmaps_to_keypoints(heatmaps, boxes.detach())[:, :, [0, 1, 3]]
    counts = [len(x) for x in pred_instances]
    for keypoints_i, heatmaps_i, x in zip(
        keypoints.split(counts), heatmaps.split(counts), pred_instances, strict=True
    ):
        x.pred_keypoints = keypoints_i
        x.pred_keypoint_heatmaps = heatmaps_i


class BaseKeypointRCNNHead(nn.Module):
    """Base class of keypoint heads: losses and inference. Subclasses define `layers`."""

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ):
        """Store the settings of the loss.

        Args:
            num_keypoints: K, keypoints of an object.
            loss_normalizer: "visible" to divide the loss by the number of visible keypoints, or a
                divisor per image.
        """
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ValueError(f'loss_normalizer is {loss_normalizer!r}; use "visible" or a number')
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.ROI_KEYPOINT_HEAD, and the sampling settings for a fixed normalizer."""
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        normalizer: float | str = "visible"
        if not head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
            roi_heads = cfg.MODEL.ROI_HEADS
            normalizer = (
                head.NUM_KEYPOINTS * roi_heads.BATCH_SIZE_PER_IMAGE * roi_heads.POSITIVE_FRACTION
            )
        return {
            "num_keypoints": head.NUM_KEYPOINTS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": normalizer,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Return the losses in training; otherwise the instances with `pred_keypoints`.

        Args:
            x: (R, C, H, W) pooled features of the objects in `instances`.
            instances: per image; see `keypoint_rcnn_loss` and `keypoint_rcnn_inference`.
        """
        for gt in instances if self.training else []:
            found = gt.gt_keypoints.tensor.shape[1] if len(gt) else self.num_keypoints
            if found != self.num_keypoints:
                raise ValueError(
                    f"the data have {found} keypoints, the model {self.num_keypoints}; set "
                    f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS to {found}"
                )
        logits = self.layers(x)
        if self.training:
            by_visible = self.loss_normalizer == "visible"
            normalizer = None if by_visible else len(instances) * self.loss_normalizer
            loss = keypoint_rcnn_loss(logits, instances, normalizer)
            return {"loss_keypoint": loss * self.loss_weight}
        keypoint_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) features -> (R, K, S, S) logits."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):
    """3x3 convolutions, then upsampling by 2 with a deconvolution and by 2 bilinearly."""

    up_scale = 2  # of the bilinear upsampling

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_keypoints: int, conv_dims: Sequence[int], **kwargs
    ):
        """Describe the layers.

        Args:
            conv_dims: channels of the convolutions.
            kwargs: passed to BaseKeypointRCNNHead.
        """
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        in_channels = input_shape.channels
        for k, width in enumerate(conv_dims, 1):
            self.add_module(f"conv_fcn{k}", Conv2d(in_channels, width, 3, stride=1, padding=1))
            self.add_module(f"conv_fcn_relu{k}", nn.ReLU(inplace=True))
            in_channels = width
        self.score_lowres = ConvTranspose2d(
            in_channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Add MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS."""
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> (R, K, 4H, 4W) logits."""
        for layer in self:
            x = layer(x)
        return F.interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)
