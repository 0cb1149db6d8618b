"""Region heads for rotated boxes."""

from typing import Any

import torch
from torch import Tensor

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec, batched_nms_rotated
from d2lite.modeling.box_regression import Box2BoxTransformRotated
from d2lite.modeling.roi_heads.base import ROI_HEADS_REGISTRY, build_pooler
from d2lite.modeling.roi_heads.box_head import build_box_head
from d2lite.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, Predictions
from d2lite.modeling.roi_heads.roi_heads import StandardROIHeads
from d2lite.structures import Instances, RotatedBoxes

__all__ = ["RROIHeads", "RotatedFastRCNNOutputLayers"]


def fast_rcnn_inference_rotated(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """`fast_rcnn_inference` for rotated boxes: (Ri, K*5), or (Ri, 5) for all classes."""
    results = [
        fast_rcnn_inference_single_image_rotated(
            boxes_i, scores_i, shape_i, score_thresh, nms_thresh, topk_per_image
        )
        for boxes_i, scores_i, shape_i in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [detections for detections, _ in results], [rows for _, rows in results]


def fast_rcnn_inference_single_image_rotated(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """`fast_rcnn_inference_rotated` for one image. Rows with a non-finite value are dropped."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    candidates = (scores[:, :-1] > score_thresh) & finite[:, None]  # (R, K)
    rows, classes = candidates.nonzero(as_tuple=True)
    scores = scores[rows, classes]
    boxes = boxes.unflatten(1, (-1, 5))  # (R, K or 1, 5)
    found = RotatedBoxes(boxes[rows, classes if boxes.shape[1] > 1 else 0])
    found.clip(image_shape)

    keep = batched_nms_rotated(found.tensor, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    detections = Instances(
        image_shape, pred_boxes=found[keep], scores=scores[keep], pred_classes=classes[keep]
    )
    return detections, rows[keep]


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """The last layers of Fast R-CNN with five deltas for each box."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """As FastRCNNOutputLayers, with deltas of rotated boxes."""
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        return {
            **super().from_config(cfg, input_shape),
            "box2box_transform": Box2BoxTransformRotated(weights=weights),
        }

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections of each image; see `fast_rcnn_inference_rotated`."""
        return fast_rcnn_inference_rotated(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [x.image_size for x in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """The box branch for rotated boxes; there are no other branches."""

    @configurable
    def __init__(self, **kwargs: Any):
        """kwargs: of StandardROIHeads.

        Raises:
            ValueError: a mask or keypoint branch, or training on predicted boxes, is asked for.
        """
        super().__init__(**kwargs)
        if self.mask_on or self.keypoint_on:
            raise ValueError(
                "RROIHeads has no mask and no keypoint branch: set MODEL.MASK_ON and "
                "MODEL.KEYPOINT_ON to False"
            )
        if self.train_on_pred_boxes:
            raise ValueError(
                "RROIHeads cannot train on predicted boxes: set "
                "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES to False"
            )

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.ROI_BOX_HEAD
        if head.POOLER_TYPE != "ROIAlignRotated":
            raise ValueError(
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
