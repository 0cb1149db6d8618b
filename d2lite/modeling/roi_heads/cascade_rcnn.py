"""Cascade R-CNN (Cai and Vasconcelos 2018): each box head refines the boxes of the previous one."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.function import Function

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.detection_steps import matched_boxes
from d2lite.modeling.matcher import BACKGROUND, FOREGROUND, Matcher, match_boxes
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads.base import ROI_HEADS_REGISTRY, build_pooler
from d2lite.modeling.roi_heads.box_head import build_box_head
from d2lite.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from d2lite.modeling.roi_heads.roi_heads import StandardROIHeads
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import get_event_storage, has_event_storage, log_scalar


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """Region heads whose stages refine each other's boxes, trained at increasing IoU thresholds."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_heads: list[nn.Module],
        box_predictors: list[nn.Module],
        proposal_matchers: list[Matcher],
        **kwargs,
    ):
        """Compose the stages, each with its own box head, predictor and matcher.

        Args:
            box_in_features: names of the features.
            box_pooler: crops the features of a region, for all stages.
            proposal_matchers: the first one labels proposals, the others refined boxes.
            kwargs: passed to StandardROIHeads.
        Raises:
            ValueError: the lists differ in length.
        """
        counts = {len(box_heads), len(box_predictors), len(proposal_matchers)}
        if len(counts) != 1:
            raise ArgumentError(
                f"a cascade needs as many box heads ({len(box_heads)}) as predictors "
                f"({len(box_predictors)}) and matchers ({len(proposal_matchers)})"
            )
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.num_cascade_stages = len(box_heads)
        self.proposal_matchers = proposal_matchers

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Build the stages; the matcher of the first one replaces that of ROIHeads."""
        arguments = super().from_config(cfg, input_shape)
        arguments.pop("proposal_matcher")
        return arguments

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        _check_config(cfg)
        pooler, shape = build_pooler(cfg, input_shape, cfg.MODEL.ROI_BOX_HEAD)
        stages = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        heads, predictors = [], []
        for weights in stages.BBOX_REG_WEIGHTS:  # stage by stage, for detectron2's initial weights
            heads.append(build_box_head(cfg, shape))
            transform = Box2BoxTransform(weights=weights)
            predictors.append(
                FastRCNNOutputLayers(cfg, heads[-1].output_shape, box2box_transform=transform)
            )
        return {
            "box_in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "box_pooler": pooler,
            "box_heads": heads,
            "box_predictors": predictors,
            "proposal_matchers": [
                Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in stages.IOUS
            ],
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
            return self.forward_with_given_boxes(features, detections), {}
        assert targets is not None, "ROI heads need ground truth in training: 'instances'"
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals, targets)
        # Masks and keypoints train on the proposals, which vary more than refined boxes.
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of all stages in training, and detections otherwise."""
        levels = [features[name] for name in self.box_in_features]
        image_sizes = [x.image_size for x in proposals]
        outputs = []  # per stage: predictions and the proposals that they refine
        refined: list[Tensor] = []
        for stage in range(self.num_cascade_stages):
            if stage > 0:
                proposals = self._create_proposals_from_boxes(refined, image_sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(proposals, stage, targets)
            predictions = self._run_stage(levels, proposals, stage)
            refined = self.box_predictor[stage].predict_boxes(predictions, proposals)
            outputs.append((predictions, proposals))
        if not self.training:
            return self._detections(outputs, refined)
        losses = {}
        for stage, (predictions, proposals) in enumerate(outputs):
            # Prefix what a stage logs with its name, if there is a storage.
            logs = has_event_storage() and get_event_storage().name_scope(f"stage{stage}")
            with logs or nullcontext():
                stage_losses = self.box_predictor[stage].losses(predictions, proposals)
            losses.update({f"{k}_stage{stage}": v for k, v in stage_losses.items()})
        return losses

    def _detections(
        self, outputs: list[tuple[tuple, list[Instances]]], boxes: list[Tensor]
    ) -> list[Instances]:
        """Return the boxes of the last stage with the mean scores of all stages."""
        by_stage = [
            predictor.predict_probs(predictions, proposals)
            for predictor, (predictions, proposals) in zip(self.box_predictor, outputs, strict=True)
        ]
        scores = [sum(stages) * (1.0 / len(stages)) for stages in zip(*by_stage, strict=True)]
        last = self.box_predictor[-1]
        detections, _ = fast_rcnn_inference(
            boxes,
            scores,
            [x.image_size for x in outputs[-1][1]],
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return detections

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Add `gt_classes` and `gt_boxes` to the boxes of a later stage, in place.

        Unlike in the first stage, all boxes are used, without sampling.

        Args:
            proposals: per image, with `proposal_boxes`.
            targets: per image, with `gt_boxes` and `gt_classes`.
        """
        num_foreground, total = [], 0
        for x, target in zip(proposals, targets, strict=True):
            matcher = self.proposal_matchers[stage]
            gt_index, labels = match_boxes(matcher, target.gt_boxes, x.proposal_boxes)
            if len(target) > 0:
                x.gt_classes = target.gt_classes[gt_index]
                x.gt_classes[labels == BACKGROUND] = self.num_classes
            else:
                x.gt_classes = torch.full_like(gt_index, self.num_classes)
            x.gt_boxes = Boxes(matched_boxes(target.gt_boxes, gt_index))
            num_foreground.append((labels == FOREGROUND).sum())
            total += len(x)
        foreground = torch.stack(num_foreground).sum()
        log_scalar(f"stage{stage}/roi_head/num_fg_samples", foreground / len(proposals))
        log_scalar(f"stage{stage}/roi_head/num_bg_samples", (total - foreground) / len(proposals))
        return proposals

    def _run_stage(self, features: list[Tensor], proposals: list[Instances], stage: int) -> tuple:
        """Return the predictions of one stage."""
        pooled = self.box_pooler(features, [x.proposal_boxes for x in proposals])
        if self.training:
            # Scale the gradients of all stages so that their sum weighs as much as one stage.
            pooled = _ScaleGradient.apply(pooled, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def _create_proposals_from_boxes(
        self, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Make proposals from refined boxes: clipped, without gradients, and without empty ones in
        training.

        At inference all boxes are kept, because scores are averaged row by row over the stages.
        """
        proposals = []
        for boxes_per_image, image_size in zip(boxes, image_sizes, strict=True):
            clipped = Boxes(boxes_per_image.detach())
            clipped.clip(image_size)
            if self.training:
                clipped = clipped[clipped.nonempty()]
            proposals.append(Instances(image_size, proposal_boxes=clipped))
        return proposals


class _ScaleGradient(Function):
    """Identity whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


def _check_config(cfg: CfgNode) -> None:
    """Check that the first stage repeats the settings of the standard heads."""
    stages = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    if len(stages.IOUS) != len(stages.BBOX_REG_WEIGHTS):
        raise ArgumentError(
            f"MODEL.ROI_BOX_CASCADE_HEAD has {len(stages.IOUS)} IOUS "
            f"but {len(stages.BBOX_REG_WEIGHTS)} BBOX_REG_WEIGHTS; it needs one for each stage"
        )
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        raise ArgumentError(
            "CascadeROIHeads refines one box per proposal: "
            "set MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True"
        )
    pairs = {
        "IOUS": (
            stages.IOUS[0],
            "MODEL.ROI_HEADS.IOU_THRESHOLDS",
            cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0],
        ),
        "BBOX_REG_WEIGHTS": (
            stages.BBOX_REG_WEIGHTS[0],
            "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
            cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS,
        ),
    }
    for name, (first, key, common) in pairs.items():
        if first != common:
            raise ArgumentError(
                f"the first of MODEL.ROI_BOX_CASCADE_HEAD.{name} is {first!r}, but {key} is "
                f"{common!r}; they must be equal and of the same type (tuple or list)"
            )
