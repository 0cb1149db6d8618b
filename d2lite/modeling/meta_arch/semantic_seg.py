"""Semantic segmentation: a class for every pixel."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import Conv2d, ShapeSpec, conv_with_norm
from d2lite.modeling.backbone import Backbone, build_backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.inputs import (
    batch_for,
    check_labels,
    output_sizes,
    required_field,
    set_pixel_statistics,
)
from d2lite.modeling.postprocessing import sem_seg_postprocess
from d2lite.structures import ImageList
from d2lite.utils.registry import Registry

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS", config_key="MODEL.SEM_SEG_HEAD.NAME")
SEM_SEG_HEADS_REGISTRY.__doc__ = """Callables (cfg, input_shape by feature name) -> nn.Module.

The module has `ignore_value`, is called with (features by name, targets or None), and returns
(logits, {}) at inference and (None, losses by name) in training.
"""


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the head named by MODEL.SEM_SEG_HEAD.NAME."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)


def batch_targets(
    batched_inputs: Sequence[dict[str, Any]],
    device: torch.device,
    backbone: Backbone,
    sem_seg_head: nn.Module,
) -> Tensor:
    """Return the "sem_seg" of all inputs as one (N, H, W) batch, padded like the images.

    Args:
        sem_seg_head: has `ignore_value`, the label of the padding, and optionally `num_classes`.
    Raises:
        ValueError: a pixel has a class that the head lacks.
    """
    targets = [x.to(device) for x in required_field(batched_inputs, "sem_seg")]
    check_labels(batched_inputs, sem_seg_head)
    return ImageList.from_tensors(
        targets,
        backbone.size_divisibility,
        sem_seg_head.ignore_value,
        backbone.padding_constraints,
    ).tensor


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(nn.Module):
    """Backbone and a head that classifies every pixel."""

    # Config keys with a number of classes, and the metadata entry whose length it must equal.
    class_count_keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": "stuff_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """pixel_mean, pixel_std: one value per channel, in the channel order of the images."""
        super().__init__()
        self.backbone = backbone
        set_pixel_statistics(self, pixel_mean, pixel_std)
        self.sem_seg_head = sem_seg_head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts from the config."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, class scores otherwise.

        Args:
            batched_inputs: for each image a dict with "image", (C, H, W); in training "sem_seg",
                (H, W) labels; and optionally "height" and "width" of the result.

        Returns:
            In training the losses by name. Otherwise for each image {"sem_seg": (K, H, W)
            scores}, in the requested size.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        targets = None
        if "sem_seg" in batched_inputs[0]:
            targets = batch_targets(batched_inputs, self.device, self.backbone, self.sem_seg_head)
        results, losses = self.sem_seg_head(features, targets)
        if self.training:
            return losses
        sizes = output_sizes(batched_inputs, images.image_sizes)
        return [
            {"sem_seg": sem_seg_postprocess(result, image_size, *size)}
            for result, image_size, size in zip(results, images.image_sizes, sizes, strict=True)
        ]

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch."""
        return batch_for(self, required_field(batched_inputs, "image"))


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegFPNHead(nn.Module):
    """Upsample all levels to one stride, add them, and classify (Kirillov et al. 2019, sec. 3).

    Each level passes through 3x3 convolutions, each followed by upsampling by 2, until it has the
    common stride. The branch of a level is a submodule with the name of the feature.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str | Callable[[int], nn.Module] | None = None,
        ignore_value: int = -1,
    ):
        """Describe the layers.

        Args:
            input_shape: of the features, by name.
            num_classes: K.
            conv_dims: channels of all convolutions except the last.
            common_stride: stride of the sum.
            loss_weight: factor on the loss.
            norm: normalization after each 3x3 convolution, see `get_norm`.
            ignore_value: label of pixels to ignore.

        Raises:
            ValueError: there are no features.
        """
        super().__init__()
        if not input_shape:
            raise ValueError(
                "SemSegFPNHead needs at least one feature: MODEL.SEM_SEG_HEAD.IN_FEATURES"
            )
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.scale_heads = []  # of each feature, in the order of `in_features`
        for name in self.in_features:
            self.scale_heads.append(_branch(input_shape[name], conv_dims, common_stride, norm))
            self.add_module(name, self.scale_heads[-1])
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.SEM_SEG_HEAD."""
        head = cfg.MODEL.SEM_SEG_HEAD
        shapes = select_features(input_shape, head.IN_FEATURES, "MODEL.SEM_SEG_HEAD.IN_FEATURES")
        return {
            "input_shape": dict(zip(head.IN_FEATURES, shapes, strict=True)),
            "num_classes": head.NUM_CLASSES,
            "conv_dims": head.CONVS_DIM,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return class logits at inference, and the loss in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            targets: (N, H, W) labels; only needed in training.

        Returns:
            (N, K, H, W) logits and no losses, or None and {"loss_sem_seg": scalar}.
        """
        x = self.layers(features)
        if self.training:
            return None, self.losses(x, targets)
        return self._to_image_size(x), {}

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Return (N, K, H, W) logits at the common stride."""
        levels = zip(self.scale_heads, self.in_features, strict=True)
        scaled = (branch(features[name]) for branch, name in levels)
        return self.predictor(functools.reduce(operator.add, scaled))

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the mean cross entropy of the pixels that are not ignored; 0 if there are none.

        Args:
            predictions: output of `layers`. They are upsampled in float32, because half precision
                would lose the interpolated detail.
            targets: (N, H, W) labels.
        """
        assert targets is not None, "the loss needs labels, the 'sem_seg' of every input"
        logits = self._to_image_size(predictions.float())
        loss = F.cross_entropy(logits, targets, reduction="sum", ignore_index=self.ignore_value)
        num_labeled = (targets != self.ignore_value).sum().clamp(min=1)
        return {"loss_sem_seg": loss / num_labeled * self.loss_weight}

    def _to_image_size(self, x: Tensor) -> Tensor:
        return F.interpolate(
            x, scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )


def _branch(
    shape: ShapeSpec,
    conv_dims: int,
    common_stride: int,
    norm: str | Callable[[int], nn.Module] | None,
) -> nn.Sequential:
    """Build the branch from a level to the common stride: at least one convolution."""
    num_convs = max(1, int(math.log2(shape.stride) - math.log2(common_stride)))
    layers: list[nn.Module] = []
    for i in range(num_convs):
        in_channels = shape.channels if i == 0 else conv_dims
        conv = conv_with_norm(in_channels, conv_dims, norm=norm, activation=F.relu)
        weight_init.c2_msra_fill(conv)
        layers.append(conv)
        if shape.stride != common_stride:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
