"""Panoptic-DeepLab (Cheng et al. 2020): classes, centers of things, and offsets to them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.data import MetadataCatalog
from d2lite.layers import ShapeSpec
from d2lite.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_backbone
from d2lite.modeling.backbone import Backbone
from d2lite.modeling.meta_arch.inputs import (
    batch_images,
    check_labels,
    output_sizes,
    required_field,
    set_pixel_statistics,
)
from d2lite.modeling.meta_arch.semantic_seg import build_sem_seg_head
from d2lite.modeling.postprocessing import sem_seg_postprocess
from d2lite.projects.deeplab import DeepLabV3PlusHead
from d2lite.projects.deeplab.loss import build_sem_seg_loss
from d2lite.projects.deeplab.semantic_seg import (
    decoder_arguments,
    enlarge,
    separable_conv5x5,
    small_conv1x1,
    two_conv3x3,
)
from d2lite.structures import BitMasks, ImageList, Instances
from d2lite.utils.registry import Registry

from .post_processing import get_panoptic_segmentation

VOID = -1  # segment id of pixels without a segment

INS_EMBED_BRANCHES_REGISTRY = Registry("INS_EMBED_BRANCHES", config_key="MODEL.INS_EMBED_HEAD.NAME")
INS_EMBED_BRANCHES_REGISTRY.__doc__ = """Callables (cfg, input_shape by feature name) -> nn.Module.

The module is called like `PanopticDeepLabInsEmbedHead`.
"""


def build_ins_embed_branch(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the head named by MODEL.INS_EMBED_HEAD.NAME."""
    return INS_EMBED_BRANCHES_REGISTRY.get(cfg.MODEL.INS_EMBED_HEAD.NAME)(cfg, input_shape)


@META_ARCH_REGISTRY.register()
class PanopticDeepLab(nn.Module):
    """Model of a backbone and two heads, whose predictions are grouped into segments."""

    # Config keys with a number of classes, and the metadata entry whose length it must equal.
    class_count_keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": "stuff_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        ins_embed_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        metadata: Any,
        stuff_area: int = 2048,
        center_threshold: float = 0.1,
        nms_kernel: int = 7,
        top_k_instance: int = 200,
        predict_instances: bool = True,
        size_divisibility: int = -1,
        benchmark_network_speed: bool = False,
    ):
        """Describe the model.

        Args:
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            metadata: has `thing_dataset_id_to_contiguous_id` and `label_divisor`, needed at
                inference.
            stuff_area: minimum number of pixels of stuff.
            center_threshold: minimum value of a center.
            nms_kernel, top_k_instance: see `find_instance_center`.
            predict_instances: also return things as instances.
            size_divisibility: images are padded to multiples of this; not positive: the backbone's.
            benchmark_network_speed: return nothing at inference.

        Raises:
            ValueError: the pixel statistics differ in length.
        """
        super().__init__()
        set_pixel_statistics(self, pixel_mean, pixel_std)
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.ins_embed_head = ins_embed_head
        self.meta = metadata
        self.stuff_area = stuff_area
        self.threshold = center_threshold
        self.nms_kernel = nms_kernel
        self.top_k = top_k_instance
        self.predict_instances = predict_instances
        self.size_divisibility = size_divisibility
        self.benchmark_network_speed = benchmark_network_speed

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts from the config.

        Raises:
            ValueError: the two keys USE_DEPTHWISE_SEPARABLE_CONV differ.
        """
        settings = cfg.MODEL.PANOPTIC_DEEPLAB
        separable = cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV
        if separable != settings.USE_DEPTHWISE_SEPARABLE_CONV:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV is {separable} and "
                f"MODEL.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV {not separable}; "
                "they must be equal"
            )
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "ins_embed_head": build_ins_embed_branch(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "metadata": MetadataCatalog.get(cfg.DATASETS.TRAIN[0]),
            "stuff_area": settings.STUFF_AREA,
            "center_threshold": settings.CENTER_THRESHOLD,
            "nms_kernel": settings.NMS_KERNEL,
            "top_k_instance": settings.TOP_K_INSTANCE,
            "predict_instances": settings.PREDICT_INSTANCES,
            "size_divisibility": settings.SIZE_DIVISIBILITY,
            "benchmark_network_speed": settings.BENCHMARK_NETWORK_SPEED,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, segments otherwise.

        Args:
            batched_inputs: for each image a dict with "image", (C, H, W), and optionally "height"
                and "width" of the result; in training also what
                `PanopticDeepLabTargetGenerator` returns; "sem_seg_weights" may be left out.

        Returns:
            In training the losses by name. Otherwise for each image a dict, in the size
            that its input requests:

            * "sem_seg": (K, H, W) class logits.
            * "panoptic_seg": ((H, W) segment ids, None); an id is class * `label_divisor` + a
              number, or -1.
            * "instances": Instances, if `predict_instances` is set and there are any.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if self.training:
            return self._losses(features, batched_inputs)
        sem_seg, _ = self.sem_seg_head(features)
        center, offset, _, _ = self.ins_embed_head(features)
        if self.benchmark_network_speed:
            return []
        sizes = output_sizes(batched_inputs, images.image_sizes)
        return [
            self._result(*(sem_seg_postprocess(x, image_size, *size) for x in predictions))
            for *predictions, image_size, size in zip(
                sem_seg, center, offset, images.image_sizes, sizes, strict=True
            )
        ]

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch."""
        images = required_field(batched_inputs, "image")
        return batch_images(images, self.pixel_mean, self.pixel_std, self._padded_to)

    @property
    def _padded_to(self) -> int:
        if self.size_divisibility > 0:
            return self.size_divisibility
        return self.backbone.size_divisibility

    def _losses(self, features: dict[str, Tensor], batched_inputs: list[dict]) -> dict[str, Tensor]:
        def batch(name: str, padding: float = 0) -> Tensor:
            targets = [x.to(self.device) for x in required_field(batched_inputs, name)]
            return ImageList.from_tensors(targets, self._padded_to, padding).tensor

        check_labels(batched_inputs, self.sem_seg_head)
        weighted = "sem_seg_weights" in batched_inputs[0]
        _, losses = self.sem_seg_head(
            features,
            batch("sem_seg", self.sem_seg_head.ignore_value),
            batch("sem_seg_weights") if weighted else None,
        )
        _, _, center_losses, offset_losses = self.ins_embed_head(
            features,
            batch("center").unsqueeze(1),
            batch("center_weights"),
            batch("offset"),
            batch("offset_weights"),
        )
        return {**losses, **center_losses, **offset_losses}

    def _result(self, sem_seg: Tensor, center: Tensor, offset: Tensor) -> dict[str, Any]:
        """Return the result of one image from (K, H, W), (1, H, W) and (2, H, W) predictions."""
        panoptic, _ = get_panoptic_segmentation(
            sem_seg.argmax(dim=0, keepdim=True),
            center,
            offset,
            thing_ids=self.meta.thing_dataset_id_to_contiguous_id.values(),
            label_divisor=self.meta.label_divisor,
            stuff_area=self.stuff_area,
            void_label=VOID,
            threshold=self.threshold,
            nms_kernel=self.nms_kernel,
            top_k=self.top_k,
        )
        result = {"sem_seg": sem_seg, "panoptic_seg": (panoptic[0], None)}
        if self.predict_instances:
            instances = self._instances(panoptic[0], sem_seg.softmax(dim=0), center[0])
            if len(instances) > 0:
                result["instances"] = instances
        return result

    def _instances(self, panoptic: Tensor, probabilities: Tensor, center: Tensor) -> Instances:
        """Return the segments of things as instances.

        An instance's score is the mean probability of its class times the value of the center map
        at its center of mass.
        """
        things = set(self.meta.thing_dataset_id_to_contiguous_id.values())
        categories, masks, scores = [], [], []
        for segment in panoptic.unique().tolist():
            category = segment // self.meta.label_divisor
            if segment == VOID or category not in things:
                continue
            mask = panoptic == segment
            y, x = mask.nonzero().float().mean(dim=0).long()
            categories.append(category)
            masks.append(mask)
            scores.append(probabilities[category][mask].mean() * center[y, x])
        height, width = panoptic.shape
        instances = Instances((height, width))
        instances.pred_classes = torch.tensor(categories, dtype=torch.int64, device=panoptic.device)
        instances.pred_masks = (
            torch.stack(masks) if masks else panoptic.new_zeros((0, height, width)).bool()
        )
        instances.scores = torch.stack(scores) if scores else center.new_zeros(0)
        instances.pred_boxes = BitMasks(instances.pred_masks).get_bounding_boxes()
        return instances


@SEM_SEG_HEADS_REGISTRY.register()
class PanopticDeepLabSemSegHead(DeepLabV3PlusHead):
    """The decoder of DeepLabV3+, two more convolutions, and a classifier."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: str | Callable[[int], nn.Module],
        head_channels: int,
        loss_weight: float,
        loss_type: str,
        loss_top_k: float,
        ignore_value: int,
        num_classes: int,
        **kwargs: Any,
    ):
        """Describe the layers.

        Args:
            head_channels: input channels of the classifier.
            loss_top_k: share of the pixels that "hard_pixel_mining" averages over.
            input_shape, decoder_channels, norm, loss_weight, loss_type, ignore_value, num_classes,
                kwargs: see `DeepLabV3PlusHead`.
        """
        super().__init__(
            input_shape,
            decoder_channels=decoder_channels,
            norm=norm,
            ignore_value=ignore_value,
            **kwargs,
        )
        self.loss_weight = loss_weight
        self.num_classes = num_classes
        width = decoder_channels[0]
        build = separable_conv5x5 if self.use_depthwise_separable_conv else two_conv3x3
        self.head = build(width, width, head_channels, norm)
        self.predictor = small_conv1x1(head_channels, num_classes)
        self.loss = build_sem_seg_loss(loss_type, ignore_value, loss_top_k)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.SEM_SEG_HEAD and the size of the training crops."""
        return {
            **super().from_config(cfg, input_shape),
            "head_channels": cfg.MODEL.SEM_SEG_HEAD.HEAD_CHANNELS,
            "loss_top_k": cfg.MODEL.SEM_SEG_HEAD.LOSS_TOP_K,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        targets: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return class logits at inference and the loss in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            targets: (N, H, W) labels; only needed in training.
            weights: (N, H, W) factors of the pixels' losses.

        Returns:
            (N, K, H, W) logits and no losses, or None and {"loss_sem_seg": scalar}.
        """
        y = self.layers(features)
        if self.training:
            return None, self.losses(y, targets, weights)
        return enlarge(y, self.common_stride), {}

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Return (N, K, H / stride, W / stride) logits."""
        return self.predictor(self.head(super().layers(features)))

    def losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted loss of logits at the common stride against (N, H, W) labels."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets, weights)
        return {"loss_sem_seg": loss * self.loss_weight}


@INS_EMBED_BRANCHES_REGISTRY.register()
class PanopticDeepLabInsEmbedHead(DeepLabV3PlusHead):
    """The decoder of DeepLabV3+, and predictors of centers and of offsets to them."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: str | Callable[[int], nn.Module],
        head_channels: int,
        center_loss_weight: float,
        offset_loss_weight: float,
        **kwargs: Any,
    ):
        """Describe the layers.

        Args:
            head_channels: input channels of the two predictors.
            center_loss_weight, offset_loss_weight: factors on the losses.
            input_shape, decoder_channels, norm, kwargs: see `DeepLabV3PlusHead`.
        """
        super().__init__(input_shape, decoder_channels=decoder_channels, norm=norm, **kwargs)
        self.center_loss_weight = center_loss_weight
        self.offset_loss_weight = offset_loss_weight
        width = decoder_channels[0]
        self.center_head = two_conv3x3(width, width, head_channels, norm)
        self.center_predictor = small_conv1x1(head_channels, 1)
        build = separable_conv5x5 if self.use_depthwise_separable_conv else two_conv3x3
        self.offset_head = build(width, width, head_channels, norm)
        self.offset_predictor = small_conv1x1(head_channels, 2)
        self.center_loss = nn.MSELoss(reduction="none")
        self.offset_loss = nn.L1Loss(reduction="none")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.INS_EMBED_HEAD and the size of the training crops."""
        head = cfg.MODEL.INS_EMBED_HEAD
        return {
            **decoder_arguments(cfg, head, input_shape, "MODEL.INS_EMBED_HEAD"),
            "head_channels": head.HEAD_CHANNELS,
            "center_loss_weight": head.CENTER_LOSS_WEIGHT,
            "offset_loss_weight": head.OFFSET_LOSS_WEIGHT,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        center_targets: Tensor | None = None,
        center_weights: Tensor | None = None,
        offset_targets: Tensor | None = None,
        offset_weights: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor], dict[str, Tensor]]:
        """Return centers and offsets at inference, losses in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            center_targets, center_weights: (N, 1, H, W); only needed in training.
            offset_targets: (N, 2, H, W).
            offset_weights: (N, 1, H, W).

        Returns:
            (N, 1, H, W) centers, (N, 2, H, W) offsets in pixels, and no losses; or None twice, and
            {"loss_center": scalar} and {"loss_offset": scalar}.
        """
        center, offset = self.layers(features)
        if self.training:
            return (
                None,
                None,
                self.center_losses(center, center_targets, center_weights),
                self.offset_losses(offset, offset_targets, offset_weights),
            )
        return enlarge(center, self.common_stride), self._offsets_in_pixels(offset), {}, {}

    def layers(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return centers and offsets at the common stride, offsets in units of it."""
        y = super().layers(features)
        center = self.center_predictor(self.center_head(y))
        offset = self.offset_predictor(self.offset_head(y))
        return center, offset

    def center_losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted mean squared error of centers."""
        loss = self.center_loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_center": _weighted_mean(loss, weights) * self.center_loss_weight}

    def offset_losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted mean distance |dy| + |dx| of offsets from their targets."""
        loss = self.offset_loss(self._offsets_in_pixels(predictions), targets)
        return {"loss_offset": _weighted_mean(loss, weights) * self.offset_loss_weight}

    def _offsets_in_pixels(self, offset: Tensor) -> Tensor:
        return enlarge(offset, self.common_stride) * self.common_stride


def _weighted_mean(loss: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over the channels of (N, C, H, W) losses, averaged by (N, 1, H, W) weights.

    It is 0 if all weights are 0.
    """
    total = weights.sum()
    return (loss * weights).sum() / torch.where(total > 0, total, 1)
