"""The heads of DeepLabV3 (Chen et al. 2017) and DeepLabV3+ (Chen et al. 2018)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import (
    ASPP,
    Conv2d,
    DepthwiseSeparableConv2d,
    ShapeSpec,
    conv_with_norm,
)
from d2lite.modeling import SEM_SEG_HEADS_REGISTRY
from d2lite.modeling.backbone.backbone import select_features

from .loss import build_sem_seg_loss

Norm = str | Callable[[int], nn.Module]


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3PlusHead(nn.Module):
    """Atrous spatial pyramid pooling of the last feature, and a decoder that adds earlier ones.

    Without `num_classes`, it is only a decoder, whose features are for other predictors.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        project_channels: Sequence[int],
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        decoder_channels: Sequence[int],
        common_stride: int,
        norm: Norm,
        train_size: Sequence[int] | None,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        num_classes: int | None = None,
        use_depthwise_separable_conv: bool = False,
    ):
        """Describe the layers.

        Args:
            input_shape: shapes of the features, by name. The one with the largest stride is pooled.
            project_channels: channels to which each of the others is reduced, smallest stride
                first.
            aspp_dilations, aspp_dropout: see `ASPP`.
            decoder_channels: output channels of each level, smallest stride first; the last value
                is for the pyramid pooling.
            common_stride: stride of the first level, by which the prediction is enlarged.
            norm: normalization after the convolutions, see `get_norm`.
            train_size: (height, width) of the training crops. The image-level branch then averages
                over windows of that size, even in larger test images; None: over the whole image.
            loss_weight: factor on the loss.
            loss_type: "cross_entropy" or "hard_pixel_mining".
            ignore_value: label of ignored pixels.
            num_classes: K; None omits predictor and loss.
            use_depthwise_separable_conv: use one 5x5 depthwise separable convolution instead of two
                3x3 convolutions.

        Raises:
            ValueError: the lengths of the arguments differ, or `train_size` is not a multiple of
                the largest stride.
        """
        super().__init__()
        levels = sorted(input_shape.items(), key=lambda item: item[1].stride)
        self.in_features = [name for name, _ in levels]
        if len(project_channels) != len(levels) - 1 or len(decoder_channels) != len(levels):
            raise ValueError(
                f"the {len(levels)} features {self.in_features} need {len(levels) - 1} "
                f"project_channels and {len(levels)} decoder_channels; got "
                f"{list(project_channels)} (PROJECT_CHANNELS) and {list(decoder_channels)}"
            )
        self.ignore_value = ignore_value
        self.num_classes = num_classes
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.loss_type = loss_type
        self.decoder_only = num_classes is None
        self.use_depthwise_separable_conv = use_depthwise_separable_conv
        two_convs = separable_conv5x5 if use_depthwise_separable_conv else two_conv3x3

        # The names of the submodules are fixed by released weights.
        self.decoder = nn.ModuleDict()
        for i, (name, shape) in enumerate(levels[:-1]):
            width = decoder_channels[i]
            project = _conv(shape.channels, project_channels[i], 1, norm)
            weight_init.c2_xavier_fill(project)
            fuse = two_convs(project_channels[i] + decoder_channels[i + 1], width, width, norm)
            self.decoder[name] = nn.ModuleDict({"project_conv": project, "fuse_conv": fuse})
        name, shape = levels[-1]
        pooling = ASPP(
            shape.channels,
            decoder_channels[-1],
            aspp_dilations,
            norm=norm,
            activation=F.relu,
            pool_kernel_size=pool_size(train_size, shape.stride),
            dropout=aspp_dropout,
            use_depthwise_separable_conv=use_depthwise_separable_conv,
        )
        self.decoder[name] = nn.ModuleDict({"project_conv": pooling, "fuse_conv": None})

        if not self.decoder_only:
            self.predictor = small_conv1x1(decoder_channels[0], num_classes)
            self.loss = build_sem_seg_loss(loss_type, ignore_value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.SEM_SEG_HEAD and the size of the training crops."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            **decoder_arguments(cfg, head, input_shape, "MODEL.SEM_SEG_HEAD"),
            "loss_weight": head.LOSS_WEIGHT,
            "loss_type": head.LOSS_TYPE,
            "ignore_value": head.IGNORE_VALUE,
            "num_classes": head.NUM_CLASSES,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> Tensor | tuple[Tensor | None, dict[str, Tensor]]:
        """Return class logits at inference and the loss in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            targets: (N, H, W) labels; only needed in training.

        Returns:
            (N, K, H, W) logits and no losses, or None and {"loss_sem_seg": scalar}. A head that is
            only a decoder returns its (N, C, H / stride, W / stride) features.
        """
        y = self.layers(features)
        if self.decoder_only:
            return y
        if self.training:
            return None, self.losses(y, targets)
        return enlarge(y, self.common_stride), {}

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Return the logits, or the features of a decoder, at the stride of the first level."""
        *others, last = self.in_features
        y = self.decoder[last]["project_conv"](features[last])
        for name in reversed(others):
            x = self.decoder[name]["project_conv"](features[name])
            y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
            y = self.decoder[name]["fuse_conv"](torch.cat([x, y], dim=1))
        return y if self.decoder_only else self.predictor(y)

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss of logits at the common stride against (N, H, W) labels."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_sem_seg": loss * self.loss_weight}


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3Head(nn.Module):
    """Atrous spatial pyramid pooling of one feature, and a classifier (DeepLabV3, sec. 3.3)."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_features: Sequence[str],
        aspp_channels: int,
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        conv_dims: int,
        common_stride: int,
        norm: Norm,
        train_size: Sequence[int] | None,
        num_classes: int,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        use_depthwise_separable_conv: bool = False,
    ):
        """Describe the layers.

        Args:
            input_shape: shapes of the backbone's features, by name.
            in_features: the name of the single feature.
            aspp_channels: output channels of the pyramid pooling.
            conv_dims: input channels of the predictor, which must equal `aspp_channels`.
            common_stride: stride of the feature, by which the prediction is enlarged.
            num_classes: K.
            aspp_dilations, aspp_dropout, norm, train_size, loss_weight, loss_type, ignore_value,
                use_depthwise_separable_conv: see `DeepLabV3PlusHead`.

        Raises:
            ValueError: there is not exactly one feature, the channels differ, or `train_size` is
                not a multiple of the stride.
        """
        super().__init__()
        if len(in_features) != 1:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {list(in_features)}; DeepLabV3Head takes one "
                "feature, DeepLabV3PlusHead several"
            )
        if conv_dims != aspp_channels:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.CONVS_DIM is {conv_dims} and ASPP_CHANNELS {aspp_channels}; "
                "DeepLabV3Head needs both to be equal"
            )
        self.in_features = list(in_features)
        self.ignore_value = ignore_value
        self.num_classes = num_classes
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.loss_type = loss_type
        (shape,) = select_features(input_shape, in_features, "MODEL.SEM_SEG_HEAD.IN_FEATURES")
        self.aspp = ASPP(
            shape.channels,
            aspp_channels,
            aspp_dilations,
            norm=norm,
            activation=F.relu,
            pool_kernel_size=pool_size(train_size, common_stride),
            dropout=aspp_dropout,
            use_depthwise_separable_conv=use_depthwise_separable_conv,
        )
        self.predictor = small_conv1x1(conv_dims, num_classes)
        self.loss = build_sem_seg_loss(loss_type, ignore_value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.SEM_SEG_HEAD and the size of the training crops."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": input_shape,
            "in_features": head.IN_FEATURES,
            "aspp_channels": head.ASPP_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "aspp_dropout": head.ASPP_DROPOUT,
            "conv_dims": head.CONVS_DIM,
            "common_stride": head.COMMON_STRIDE,
            "norm": head.NORM,
            "train_size": training_crop_size(cfg),
            "num_classes": head.NUM_CLASSES,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_type": head.LOSS_TYPE,
            "ignore_value": head.IGNORE_VALUE,
            "use_depthwise_separable_conv": head.USE_DEPTHWISE_SEPARABLE_CONV,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return class logits at inference and the loss in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            targets: (N, H, W) labels; only needed in training.

        Returns:
            (N, K, H, W) logits and no losses, or None and {"loss_sem_seg": scalar}.
        """
        x = self.predictor(self.aspp(features[self.in_features[0]]))
        if self.training:
            return None, self.losses(x, targets)
        return enlarge(x, self.common_stride), {}

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss of logits at the common stride against (N, H, W) labels."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_sem_seg": loss * self.loss_weight}


def decoder_arguments(
    cfg: CfgNode, head: CfgNode, input_shape: dict[str, ShapeSpec], key: str
) -> dict:
    """Return the arguments of `DeepLabV3PlusHead` as a decoder.

    Args:
        head: the settings of the head.
        key: their key in the config, for messages.
    """
    shapes = select_features(input_shape, head.IN_FEATURES, f"{key}.IN_FEATURES")
    return {
        "input_shape": dict(zip(head.IN_FEATURES, shapes, strict=True)),
        "project_channels": head.PROJECT_CHANNELS,
        "aspp_dilations": head.ASPP_DILATIONS,
        "aspp_dropout": head.ASPP_DROPOUT,
        "decoder_channels": [head.CONVS_DIM] * (len(shapes) - 1) + [head.ASPP_CHANNELS],
        "common_stride": head.COMMON_STRIDE,
        "norm": head.NORM,
        "train_size": training_crop_size(cfg),
        # One setting for all heads of a model.
        "use_depthwise_separable_conv": cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV,
    }


def training_crop_size(cfg: CfgNode) -> Sequence[int] | None:
    """Return the (height, width) of training crops, or None if there are none.

    Raises:
        ValueError: the size of the crops is not fixed.
    """
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE != "absolute":
        raise ValueError(
            f"INPUT.CROP.TYPE is {crop.TYPE!r}; DeepLab pools windows of the crop size, which must "
            "be fixed: use 'absolute'"
        )
    return crop.SIZE


def pool_size(train_size: Sequence[int] | None, stride: int) -> tuple[int, int] | None:
    """Return the (height, width) of a training crop in a feature of this stride, or None."""
    if train_size is None:
        return None
    height, width = train_size
    if height % stride or width % stride:
        raise ValueError(
            f"INPUT.CROP.SIZE is {tuple(train_size)}; both must be multiples of {stride}, the "
            "stride of the feature that the pyramid pooling takes"
        )
    return height // stride, width // stride


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Enlarge (N, C, H, W) by bilinear interpolation."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def small_conv1x1(in_channels: int, out_channels: int) -> Conv2d:
    """Build a 1x1 convolution that starts with predictions near 0."""
    conv = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.normal_(conv.weight, 0, 0.001)
    nn.init.constant_(conv.bias, 0)
    return conv


def two_conv3x3(
    in_channels: int, mid_channels: int, out_channels: int, norm: Norm
) -> nn.Sequential:
    """Build two 3x3 convolutions with normalization and ReLU."""
    convs = nn.Sequential(
        _conv(in_channels, mid_channels, 3, norm), _conv(mid_channels, out_channels, 3, norm)
    )
    for conv in convs:
        weight_init.c2_xavier_fill(conv)
    return convs


def separable_conv5x5(
    in_channels: int, mid_channels: int, out_channels: int, norm: Norm
) -> DepthwiseSeparableConv2d:
    """Build a 5x5 depthwise separable convolution, which sees as much as `two_conv3x3`."""
    return DepthwiseSeparableConv2d(
        in_channels,
        out_channels,
        kernel_size=5,
        padding=2,
        norm1=norm,
        activation1=F.relu,
        norm2=norm,
        activation2=F.relu,
    )


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Conv2d:
    return conv_with_norm(in_channels, out_channels, kernel_size, norm=norm, activation=F.relu)
