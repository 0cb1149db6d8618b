"""Two-stage detectors, and their first stage alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.modeling.backbone import Backbone, build_backbone
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.inputs import (
    batch_for,
    ground_truth,
    postprocess,
    required_field,
    set_pixel_statistics,
)
from d2lite.modeling.proposal_generator import build_proposal_generator
from d2lite.modeling.roi_heads import build_roi_heads
from d2lite.modeling.training_pictures import draw_beside_truth
from d2lite.structures import ImageList, Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import is_time_to_draw


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """A backbone, a proposal generator, and heads that look at every proposed region."""

    # Config keys with a count of classes, and the metadata that each counts.
    class_count_keys = {"MODEL.ROI_HEADS.NUM_CLASSES": "thing_classes"}
    # Only models that are told how their images look can draw them.
    vis_period: int = 0
    input_format: str | None = None

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
        self.backbone = backbone
        set_pixel_statistics(self, pixel_mean, pixel_std)
        if vis_period > 0 and input_format is None:
            raise ArgumentError("vis_period draws images, so it needs input_format, such as 'BGR'")
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period

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
        gt_instances = self._ground_truth(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if is_time_to_draw(self.vis_period):
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
        # As in detectron2, not the method of a subclass, whose parameters may be others.
        return GeneralizedRCNN._postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch that the backbone can take."""
        images = [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")]
        return batch_for(self, images)

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], proposals: list[Instances]
    ) -> None:
        """Put the first image into the event storage: left the ground truth, right proposals.

        Args:
            batched_inputs: see `forward`.
            proposals: of each image, best first; the best 20 are drawn.
        """
        name = "Left: GT bounding boxes;  Right: Predicted proposals"
        boxes = proposals[0].proposal_boxes
        draw_beside_truth(batched_inputs[0], boxes, self.input_format, name, axis=1)

    _postprocess = staticmethod(postprocess)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.pixel_mean.device, non_blocking=True)

    def _ground_truth(self, batched_inputs: list[dict[str, Any]]) -> list[Instances] | None:
        return ground_truth(
            batched_inputs, self.device, self._num_label_classes(), self.class_count_keys
        )

    def _num_label_classes(self) -> int | None:
        """How many classes objects may have in training; None where their classes don't matter."""
        return getattr(self.roi_heads, "num_classes", None)

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
        self.backbone = backbone
        set_pixel_statistics(self, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator

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
        images = self.preprocess_image(batched_inputs)
        gt_instances = ground_truth(batched_inputs, self.device)
        features = self.backbone(images.tensor)
        proposals, losses = self.proposal_generator(images, features, gt_instances)
        if self.training:
            return losses
        return postprocess(proposals, batched_inputs, images.image_sizes, "proposals")

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch that the backbone can take."""
        images = [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")]
        return batch_for(self, images)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.pixel_mean.device, non_blocking=True)
