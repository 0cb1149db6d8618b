"""The region heads: box, mask and keypoint branches."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads.base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_pooler,
    build_roi_heads as build_roi_heads,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from d2lite.modeling.roi_heads.box_head import build_box_head
from d2lite.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from d2lite.modeling.roi_heads.keypoint_head import build_keypoint_head
from d2lite.modeling.roi_heads.mask_head import build_mask_head
from d2lite.modeling.roi_heads.res5_heads import Res5ROIHeads as Res5ROIHeads
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.errors import ArgumentError


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Box, mask and keypoint branches that share only the features (for FPN and DC5)."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: Sequence[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ):
        """Compose the branches; mask and keypoint branches exist when their features are named.

        Args:
            box_in_features, mask_in_features, keypoint_in_features: names of the features.
            box_pooler, mask_pooler, keypoint_pooler: crop a region's features; without a mask or
                keypoint pooler the head takes the features by name.
            box_head: maps cropped features to a feature vector.
            box_predictor: maps that vector to predictions, losses and detections.
            train_on_pred_boxes: whether the mask and keypoint branches train on predicted boxes
                instead of proposals.
            kwargs: passed to ROIHeads.
        """
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head
        self.keypoint_on = keypoint_in_features is not None
        if self.keypoint_on:
            self.keypoint_in_features = keypoint_in_features
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head = keypoint_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Build the branches that the config enables; subclasses may override each `_init_*`.

        Old code overrides them as instance methods and calls them after this class's constructor;
        such a branch is not among the returned arguments.
        """
        arguments = {
            **super().from_config(cfg),
            "train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES,
        }
        for build in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            if inspect.ismethod(build):
                arguments |= build(cfg, input_shape)
        return arguments

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        pooler, shape = build_pooler(cfg, input_shape, cfg.MODEL.ROI_BOX_HEAD)
        box_head = build_box_head(cfg, shape)
        return {
            "box_in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(cfg, box_head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        if not cfg.MODEL.MASK_ON:
            return {}
        pooler, shape = _build_branch_input(cfg, input_shape, cfg.MODEL.ROI_MASK_HEAD)
        return {
            "mask_in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "mask_pooler": pooler,
            "mask_head": build_mask_head(cfg, shape),
        }

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        pooler, shape = _build_branch_input(cfg, input_shape, cfg.MODEL.ROI_KEYPOINT_HEAD)
        return {
            "keypoint_in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "keypoint_pooler": pooler,
            "keypoint_head": build_keypoint_head(cfg, shape),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See `ROIHeads.forward`."""
        if not self.training:
            detections = self._forward_box(features, proposals)
            # The other branches use the detected boxes, which are fewer and more accurate.
            return self.forward_with_given_boxes(features, detections), {}
        assert targets is not None, "ROI heads need ground truth in training: 'instances'"
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks and keypoints to known boxes, at inference.

        Args:
            features: by name, (N, C, Hi, Wi).
            instances: per image, with `pred_boxes` and `pred_classes`.
        """
        assert not self.training, "forward_with_given_boxes is for inference: call model.eval()"
        for x in instances:
            if not (x.has("pred_boxes") and x.has("pred_classes")):
                raise ArgumentError(
                    "given instances need pred_boxes and pred_classes; "
                    f"they have {sorted(x.get_fields())}"
                )
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of the box branch in training, and its detections otherwise."""
        levels = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(levels, [x.proposal_boxes for x in proposals])
        predictions = self.box_predictor(self.box_head(pooled))
        del pooled  # frees memory before the losses and the other branches
        if not self.training:
            detections, _ = self.box_predictor.inference(predictions, proposals)
            return detections
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for x, boxes_per_image in zip(proposals, boxes, strict=True):
                x.proposal_boxes = Boxes(boxes_per_image)
        return losses

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of the mask branch in training, and instances with masks otherwise."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        x = self._branch_features(features, self.mask_in_features, self.mask_pooler, instances)
        return self.mask_head(x, instances)

    def _forward_keypoint(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of the keypoint branch in training, instances with keypoints
        otherwise."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
        x = self._branch_features(
            features, self.keypoint_in_features, self.keypoint_pooler, instances
        )
        return self.keypoint_head(x, instances)

    def _branch_features(
        self,
        features: dict[str, Tensor],
        names: Sequence[str],
        pooler: ROIPooler | None,
        instances: list[Instances],
    ) -> Tensor | dict[str, Tensor]:
        if pooler is None:
            return {name: features[name] for name in names}
        boxes = [x.proposal_boxes if self.training else x.pred_boxes for x in instances]
        return pooler([features[name] for name in names], boxes)


def _build_branch_input(
    cfg: CfgNode, input_shape: dict[str, ShapeSpec], head: CfgNode
) -> tuple[ROIPooler | None, ShapeSpec | dict[str, ShapeSpec]]:
    """Like `build_pooler`; a head with an empty POOLER_TYPE takes the features by name."""
    if head.POOLER_TYPE:
        return build_pooler(cfg, input_shape, head)
    names = cfg.MODEL.ROI_HEADS.IN_FEATURES
    shapes = select_features(input_shape, names, "MODEL.ROI_HEADS.IN_FEATURES")
    return None, dict(zip(names, shapes, strict=True))
