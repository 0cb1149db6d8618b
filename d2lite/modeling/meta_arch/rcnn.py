"""Two-stage detectors, and their first stage alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.data.detection_utils import convert_image_to_rgb
from d2lite.modeling.backbone import Backbone, build_backbone
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.inputs import (
    batch_images,
    check_pixel_statistics,
    output_sizes,
    per_channel,
    required_field,
)
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.modeling.proposal_generator import build_proposal_generator
from d2lite.modeling.roi_heads import build_roi_heads
from d2lite.structures import ImageList, Instances
from d2lite.utils.events import get_event_storage, has_event_storage, log_image

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

MAX_DRAWN_BOXES = 20


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """A backbone, a proposal generator, and heads that look at every proposed region."""

    # Config keys with a count of classes, and the metadata that each counts.
    class_count_keys = {"MODEL.ROI_HEADS.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ):
        """Compose the model.

        Args:
            proposal_generator: None when every input brings its "proposals".
            pixel_mean, pixel_std: one value for each channel, as images come.
            input_format: order of the channels, such as "BGR"; needed for `vis_period`.
            vis_period: iterations between pictures of proposals put into the event storage; 0
                for none.
        Raises:
            ValueError: for `vis_period` without `input_format`, or unequal pixel statistics.
        """
        super().__init__()
        check_pixel_statistics(pixel_mean, pixel_std)
        if vis_period > 0 and input_format is None:
            raise ValueError("vis_period draws images, so it needs input_format, such as 'BGR'")
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        self.register_buffer("pixel_mean", per_channel(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", per_channel(pixel_std), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts that the config names."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, detections otherwise.

        Args:
            batched_inputs: for each image a dict with "image", (C, H, W) in `input_format`;
                in training "instances" with `gt_boxes`, `gt_classes` and what the heads need;
                "proposals" where there is no proposal generator; and optionally "height" and
                "width" of the result.
        Returns:
            In training the losses by name. Otherwise for each image {"instances": Instances},
            with `pred_boxes`, `scores`, `pred_classes` and what the heads add.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = [x.to(self.device) for x in required_field(batched_inputs, "instances")]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self._is_time_to_draw():
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **proposal_losses}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
        """Detect objects.

        Args:
            batched_inputs: see `forward`.
            detected_instances: boxes that are known, with `pred_boxes` and `pred_classes`; only
                masks and keypoints are then predicted.
            do_postprocess: whether to scale the results to the wanted size.
        Returns:
            What `forward` returns, or without post-processing the bare Instances of each image,
            in the size that the network sees.
        """
        assert not self.training, "inference needs model.eval()"
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            proposals, _ = self._propose(batched_inputs, images, features, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            known = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, known)
        if not do_postprocess:
            return results
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise the images and pad them into a batch that the backbone can take."""
        return batch_images(
            required_field(batched_inputs, "image"),
            self.pixel_mean,
            self.pixel_std,
            self.backbone.size_divisibility,
            self.backbone.padding_constraints,
        )

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], proposals: list[Instances]
    ) -> None:
        """Put the first image into the event storage: left the ground truth, right proposals.

        Args:
            batched_inputs: see `forward`.
            proposals: of each image, best first; the best 20 are drawn.
        """
        from d2lite.utils.visualizer import Visualizer  # looks upstairs; see the style guide

        image = convert_image_to_rgb(batched_inputs[0]["image"].permute(1, 2, 0), self.input_format)
        gt_boxes = batched_inputs[0]["instances"].gt_boxes
        best = proposals[0].proposal_boxes.tensor[:MAX_DRAWN_BOXES].cpu().numpy()
        left = Visualizer(image, None).overlay_instances(boxes=gt_boxes)
        right = Visualizer(image, None).overlay_instances(boxes=best)
        both = np.concatenate((left.get_image(), right.get_image()), axis=1)
        log_image("Left: GT bounding boxes;  Right: Predicted proposals", both.transpose(2, 0, 1))

    def _is_time_to_draw(self) -> bool:
        if self.vis_period <= 0 or not has_event_storage():
            return False
        return get_event_storage().iter % self.vis_period == 0

    def _propose(
        self,
        batched_inputs: list[dict[str, Any]],
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals and their losses, or the proposals that the inputs bring."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, gt_instances)
        return [x.to(self.device) for x in required_field(batched_inputs, "proposals")], {}

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: list[dict[str, Any]],
        image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Instances]]:
        """Scale the results of each image to the size that its input wants."""
        sizes = output_sizes(batched_inputs, image_sizes)
        return [
            {"instances": detector_postprocess(x, *size)}
            for x, size in zip(instances, sizes, strict=True)
        ]


@META_ARCH_REGISTRY.register()
class ProposalNetwork(nn.Module):
    """A backbone and a proposal generator, whose proposals are the result."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """pixel_mean, pixel_std: one value for each channel, as images come."""
        super().__init__()
        check_pixel_statistics(pixel_mean, pixel_std)
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.register_buffer("pixel_mean", per_channel(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", per_channel(pixel_std), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts that the config names."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, proposals otherwise.

        Args:
            batched_inputs: see `GeneralizedRCNN.forward`.
        Returns:
            In training the losses by name. Otherwise for each image {"proposals": Instances},
            with `proposal_boxes` and `objectness_logits`, in the size that the input wants.
        """
        images = batch_images(
            required_field(batched_inputs, "image"),
            self.pixel_mean,
            self.pixel_std,
            self.backbone.size_divisibility,
            self.backbone.padding_constraints,
        )
        gt_instances = None
        if self.training:
            gt_instances = [x.to(self.device) for x in required_field(batched_inputs, "instances")]
        features = self.backbone(images.tensor)
        proposals, losses = self.proposal_generator(images, features, gt_instances)
        if self.training:
            return losses
        sizes = output_sizes(batched_inputs, images.image_sizes)
        return [
            {"proposals": detector_postprocess(x, *size)}
            for x, size in zip(proposals, sizes, strict=True)
        ]
