"""Panoptic FPN (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446)."""

from typing import Any

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.inputs import output_sizes
from d2lite.modeling.meta_arch.rcnn import GeneralizedRCNN
from d2lite.modeling.meta_arch.semantic_seg import batch_targets, build_sem_seg_head
from d2lite.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from d2lite.structures import Instances

Panoptic = tuple[Tensor, list[dict[str, Any]]]


@META_ARCH_REGISTRY.register()
class PanopticFPN(GeneralizedRCNN):
    """Mask R-CNN and a semantic head on the same features, merged into one segmentation."""

    class_count_keys = {
        **GeneralizedRCNN.class_count_keys,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "stuff_classes",
    }

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        combine_instances_score_thresh: float = 0.5,
        **kwargs: Any,
    ):
        """Compose the model.

        Args:
            sem_seg_head: see SEM_SEG_HEADS_REGISTRY; its class 0 stands for all things.
            combine_overlap_thresh, combine_stuff_area_thresh, combine_instances_score_thresh:
                see `combine_semantic_and_instance_outputs`.
            kwargs: passed to GeneralizedRCNN.
        """
        super().__init__(**kwargs)
        self.sem_seg_head = sem_seg_head
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.combine_instances_score_thresh = combine_instances_score_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.PANOPTIC_FPN and build the parts from the config."""
        arguments = super().from_config(cfg)
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        weight = cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT
        if weight != 1.0:
            # An oddity of detectron2: built from a config, a box predictor has a weight for
            # "loss_box_reg" alone, so "loss_cls" keeps its weight of 1; keypoint heads keep theirs.
            heads = arguments["roi_heads"]
            predictors = heads.box_predictor
            for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
                predictor.loss_weight = {k: v * weight for k, v in predictor.loss_weight.items()}
            if hasattr(heads, "mask_head"):
                heads.mask_head.loss_weight *= weight
        return {
            **arguments,
            "sem_seg_head": build_sem_seg_head(cfg, arguments["backbone"].output_shape()),
            "combine_overlap_thresh": combine.OVERLAP_THRESH,
            "combine_stuff_area_thresh": combine.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": combine.INSTANCES_CONFIDENCE_THRESH,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, segmentations otherwise.

        Args:
            batched_inputs: see `GeneralizedRCNN.forward`; in training also "sem_seg", (H, W)
                labels where 0 stands for all things.

        Returns:
            In training the losses by name. Otherwise for each image a dict with "instances",
            see `GeneralizedRCNN.forward`; "sem_seg", (K, H, W) scores; and "panoptic_seg", see
            `combine_semantic_and_instance_outputs`.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        targets = batch_targets(batched_inputs, self.device, self.backbone, self.sem_seg_head)
        _, sem_seg_losses = self.sem_seg_head(features, targets)
        gt_instances = self._ground_truth(batched_inputs)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        return {**sem_seg_losses, **proposal_losses, **detector_losses}

    def inference(
        self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = True
    ) -> list[dict[str, Any]] | tuple[list[Instances], Tensor]:
        """Segment images.

        Args:
            batched_inputs: see `forward`.
            do_postprocess: whether to scale the results to the requested size and combine them.

        Returns:
            The same as `forward`; without post-processing, the detections of each image and the
            (N, K, H, W) logits of the batch, in the size of the network's input.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        semantic, _ = self.sem_seg_head(features, None)
        proposals, _ = self._propose(batched_inputs, images, features, None)
        detections, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return detections, semantic
        sizes = output_sizes(batched_inputs, images.image_sizes)
        results = []
        for found, logits, image_size, size in zip(
            detections, semantic, images.image_sizes, sizes, strict=True
        ):
            scores = sem_seg_postprocess(logits, image_size, *size)
            instances = detector_postprocess(found, *size)
            panoptic = combine_semantic_and_instance_outputs(
                instances,
                scores.argmax(dim=0),
                self.combine_overlap_thresh,
                self.combine_stuff_area_thresh,
                self.combine_instances_score_thresh,
            )
            results.append({"sem_seg": scores, "instances": instances, "panoptic_seg": panoptic})
        return results


def combine_semantic_and_instance_outputs(
    instance_results: Instances,
    semantic_results: Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> Panoptic:
    """Merge instances and pixel classes so that every pixel belongs to at most one segment.

    Instances are placed first, by descending score, on the free pixels of their masks; stuff fills
    the rest (Panoptic FPN, sec. 3; Panoptic Segmentation, Kirillov et al. 2019).

    Args:
        instance_results: with `scores`, `pred_classes` and `pred_masks`, (N, H, W) bool.
        semantic_results: (H, W) classes; 0 stands for all things and is skipped.
        overlap_threshold: drop an instance if more than this fraction of its mask is already taken.
        stuff_area_thresh: stuff with fewer free pixels is dropped.
        instances_score_thresh: instances with a lower score are dropped.

    Returns:
        (H, W) int32 segment ids, 0 for none; and for each segment a dict with "id", "isthing",
        "category_id", and "score" and "instance_id" for things or "area" for stuff.
    """
    panoptic = torch.zeros_like(semantic_results, dtype=torch.int32)
    masks = instance_results.pred_masks.to(dtype=torch.bool, device=panoptic.device)
    areas = masks.flatten(1).sum(dim=1).tolist()
    scores = instance_results.scores.tolist()
    classes = instance_results.pred_classes.tolist()
    segments: list[dict[str, Any]] = []

    for i in (-instance_results.scores).argsort().tolist():
        if scores[i] < instances_score_thresh:
            break
        free = masks[i] & (panoptic == 0)
        if areas[i] == 0 or (areas[i] - int(free.sum())) / areas[i] > overlap_threshold:
            continue
        thing = {"isthing": True, "score": scores[i], "category_id": classes[i], "instance_id": i}
        segments.append({"id": len(segments) + 1, **thing})
        panoptic[free] = segments[-1]["id"]

    left = torch.where(panoptic == 0, semantic_results, 0)
    labels, counts = left.unique(return_counts=True)
    for label, area in zip(labels.tolist(), counts.tolist(), strict=True):
        if label == 0 or area < stuff_area_thresh:
            continue
        stuff = {"isthing": False, "category_id": label, "area": area}
        segments.append({"id": len(segments) + 1, **stuff})
        panoptic[left == label] = segments[-1]["id"]
    return panoptic, segments
