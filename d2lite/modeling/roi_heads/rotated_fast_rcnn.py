"""Region heads for rotated boxes."""

from functools import partial
from typing import Any

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransformRotated
from d2lite.modeling.roi_heads.base import ROI_HEADS_REGISTRY, build_pooler
from d2lite.modeling.roi_heads.box_head import build_box_head
from d2lite.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from d2lite.modeling.roi_heads.roi_heads import StandardROIHeads
from d2lite.utils.errors import ArgumentError

fast_rcnn_inference_rotated = partial(fast_rcnn_inference, box_dim=5)
"""`fast_rcnn_inference` for rotated boxes: (Ri, K*5), or (Ri, 5) for all classes."""

fast_rcnn_inference_single_image_rotated = partial(fast_rcnn_inference_single_image, box_dim=5)
"""`fast_rcnn_inference_rotated` for one image."""


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Output layers of Fast R-CNN with five deltas per box."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Like FastRCNNOutputLayers, with deltas of rotated boxes."""
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        return {
            **super().from_config(cfg, input_shape),
            "box2box_transform": Box2BoxTransformRotated(weights=weights),
        }


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """The box branch for rotated boxes; there are no other branches."""

    @configurable
    def __init__(self, **kwargs: Any):
        """kwargs: passed to StandardROIHeads.

        Raises:
            ValueError: a mask or keypoint branch, or training on predicted boxes, is requested.
        """
        super().__init__(**kwargs)
        if self.mask_on or self.keypoint_on:
            raise ArgumentError(
                "RROIHeads has no mask and no keypoint branch: set MODEL.MASK_ON and "
                "MODEL.KEYPOINT_ON to False"
            )
        if self.train_on_pred_boxes:
            raise ArgumentError(
                "RROIHeads cannot train on predicted boxes: set "
                "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES to False"
            )

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.ROI_BOX_HEAD
        if head.POOLER_TYPE != "ROIAlignRotated":
            raise ArgumentError(
                f"MODEL.ROI_BOX_HEAD.POOLER_TYPE is {head.POOLER_TYPE!r}; RROIHeads needs "
                "'ROIAlignRotated'"
            )
        pooler, shape = build_pooler(cfg, input_shape, head)
        box_head = build_box_head(cfg, shape)
        return {
            "box_in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": RotatedFastRCNNOutputLayers(cfg, box_head.output_shape),
        }
