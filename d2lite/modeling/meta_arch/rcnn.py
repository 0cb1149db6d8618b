"""Two-stage detectors (R-CNN), and the region proposal network on its own."""

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
    """Backbone, proposal generator, and heads that predict for every proposed region."""

    # Config keys with a number of classes, and the metadata entry whose length it must equal.
    class_count_keys = {"MODEL.ROI_HEADS.NUM_CLASSES": "thing_classes"}
    # Drawing images needs `input_format`.
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
            proposal_generator: None if every input has "proposals".
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            input_format: channel order, such as "BGR"; required by `vis_period`.
            vis_period: iterations between images with proposals in the event storage; 0 for none.
        Raises:
            ValueError: `vis_period` is set without `input_format`, or pixel_mean and pixel_std
                differ in length.
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
        """Build the parts from the config."""
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
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, detections otherwise.

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
            detected_instances: known boxes, with `pred_boxes` and `pred_classes`; if given, only
                masks and keypoints are predicted.
            do_postprocess: whether to scale the results to the requested size.
        Returns:
            The same as `forward`; without post-processing, just the Instances of each image, in the
            size of the network's input.
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
        # As in detectron2, don't call an overriding method, which may have other parameters.
        return GeneralizedRCNN._postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch."""
        images = [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")]
        return batch_for(self, images)

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], proposals: list[Instances]
    ) -> None:
        """Put a drawing of the first image into the event storage: ground truth on the left,
        proposals on the right.

        Args:
            batched_inputs: see `forward`.
            proposals: per image, best first; the best 20 are drawn.
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
        """Return proposals and their losses, or the proposals of the inputs."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, gt_instances)
        return [x.to(self.device) for x in required_field(batched_inputs, "proposals")], {}


@META_ARCH_REGISTRY.register()
class ProposalNetwork(nn.Module):
    """Backbone and proposal generator; the proposals are the output."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """pixel_mean, pixel_std: one value per channel, in the channel order of the images."""
        super().__init__()
        self.backbone = backbone
        set_pixel_statistics(self, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts from the config."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, proposals otherwise.

        Args:
            batched_inputs: see `GeneralizedRCNN.forward`.
        Returns:
            In training the losses by name. Otherwise for each image {"proposals": Instances},
            with `proposal_boxes` and `objectness_logits`, in the requested size.
        """
        images = self.preprocess_image(batched_inputs)
        gt_instances = ground_truth(batched_inputs, self.device)
        features = self.backbone(images.tensor)
        proposals, losses = self.proposal_generator(images, features, gt_instances)
        if self.training:
            return losses
        return postprocess(proposals, batched_inputs, images.image_sizes, "proposals")

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch."""
        images = [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")]
        return batch_for(self, images)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.pixel_mean.device, non_blocking=True)
