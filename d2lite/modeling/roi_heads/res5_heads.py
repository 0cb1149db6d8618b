"""Region heads that run the last ResNet stage on every region (the C4 models)."""

import inspect
from collections.abc import Sequence
from types import MethodType

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.backbone.resnet import BottleneckBlock, ResNet
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads.base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_pooler,
    select_foreground_proposals,
)
from d2lite.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from d2lite.modeling.roi_heads.mask_head import build_mask_head
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.errors import ArgumentError


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """Region heads that crop res4 and run res5 on each region, for boxes and masks.

    This is the left head in Mask R-CNN, fig. 4.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        pooler: ROIPooler,
        res5: nn.Module | Sequence[nn.Module],
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs,
    ):
        """Compose the heads.

        Args:
            in_features: a list with the name of the one feature to crop.
            pooler: crops the feature.
            res5: maps crops to region features; may be a list of blocks, as in lazy configs.
            box_predictor: maps their spatial mean to predictions, losses and detections.
            mask_head: maps region features to masks; None for no masks.
            kwargs: passed to ROIHeads.
        """
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = res5 if isinstance(res5, nn.Module) else nn.Sequential(*res5)
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if self.mask_on:
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Build res5 from MODEL.RESNETS, and the heads that the config enables."""
        _check_config(cfg)
        select_features(input_shape, cfg.MODEL.ROI_HEADS.IN_FEATURES, "MODEL.ROI_HEADS.IN_FEATURES")
        pooler, _ = build_pooler(cfg, input_shape, cfg.MODEL.ROI_BOX_HEAD)
        build_res5 = cls._build_res5_block
        if not inspect.ismethod(build_res5):  # overridden as an instance method, as in MoCo
            build_res5 = MethodType(build_res5, cls)
        res5, out_channels = build_res5(cfg)
        arguments = {
            **super().from_config(cfg),
            "in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "pooler": pooler,
            "res5": res5,
            "box_predictor": FastRCNNOutputLayers(
                cfg, ShapeSpec(channels=out_channels, height=1, width=1)
            ),
        }
        if cfg.MODEL.MASK_ON:
            side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
            arguments["mask_head"] = build_mask_head(
                cfg, ShapeSpec(channels=out_channels, height=side, width=side)
            )
        return arguments

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """Return the stage, with stride 2, and its channels."""
        settings = cfg.MODEL.RESNETS
        width = settings.NUM_GROUPS * settings.WIDTH_PER_GROUP * 8  # res5 is 2**3 times res2
        out_channels = settings.RES2_OUT_CHANNELS * 8
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            bottleneck_channels=width,
            out_channels=out_channels,
            num_groups=settings.NUM_GROUPS,
            norm=settings.NORM,
            stride_in_1x1=settings.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See `ROIHeads.forward`."""
        if self.training:
            assert targets is not None, "ROI heads need ground truth in training: 'instances'"
            proposals = self.label_and_sample_proposals(proposals, targets)
        boxes = [x.proposal_boxes for x in proposals]
        regions = self._shared_roi_transform(self._cropped_features(features), boxes)
        predictions = self.box_predictor(regions.mean(dim=[2, 3]))
        if not self.training:
            del regions  # frees memory: masks use the detected boxes
            detections, _ = self.box_predictor.inference(predictions, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        losses = self.box_predictor.losses(predictions, proposals)
        if self.mask_on:
            foreground, masks = select_foreground_proposals(proposals, self.num_classes)
            losses.update(self.mask_head(regions[torch.cat(masks)], foreground))
        return [], losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to known boxes, at inference.

        Args:
            features: by name, (N, C, Hi, Wi).
            instances: per image, with `pred_boxes` and `pred_classes`.
        """
        assert not self.training, "forward_with_given_boxes is for inference: call model.eval()"
        if not self.mask_on:
            return instances
        boxes = [x.pred_boxes for x in instances]
        regions = self._shared_roi_transform(self._cropped_features(features), boxes)
        return self.mask_head(regions, instances)

    def _cropped_features(self, features: dict[str, Tensor]) -> list[Tensor]:
        return [features[name] for name in self.in_features]

    def _shared_roi_transform(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """(R, C, H, W) region features of all boxes."""
        return self.res5(self.pooler(features, boxes))


def _check_config(cfg: CfgNode) -> None:
    if len(cfg.MODEL.ROI_HEADS.IN_FEATURES) != 1:
        raise ArgumentError(
            "Res5ROIHeads crops one feature; MODEL.ROI_HEADS.IN_FEATURES is "
            f"{list(cfg.MODEL.ROI_HEADS.IN_FEATURES)}"
        )
    if cfg.MODEL.KEYPOINT_ON:
        raise ArgumentError("Res5ROIHeads has no keypoints: set MODEL.KEYPOINT_ON False")
    if cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE[-1]:
        raise ArgumentError(
            "Res5ROIHeads has no deformable res5: "
            "set the last of MODEL.RESNETS.DEFORM_ON_PER_STAGE to False"
        )
