"""The dilated encoder and the decoder (sec. 4.1 and 4.3), with the authors' parameter names."""

import math
from collections.abc import Sequence

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec, get_norm


class DilatedEncoder(nn.Module):
    """Encoder of residual blocks with growing dilation: one level sees objects of all sizes."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int = 512,
        block_mid_channels: int = 128,
        block_dilations: Sequence[int] = (2, 4, 6, 8),
        norm: str = "BN",
    ):
        """Describe the layers.

        Args:
            in_channels: channels of the backbone's feature.
            out_channels: output channels.
            block_mid_channels: channels within the residual blocks.
            block_dilations: dilation of the 3x3 convolution of each block.
            norm: see `layers.get_norm`.
        """
        super().__init__()
        self.lateral_conv = nn.Conv2d(in_channels, out_channels, 1)
        self.lateral_norm = get_norm(norm, out_channels)
        self.fpn_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.fpn_norm = get_norm(norm, out_channels)
        weight_init.c2_xavier_fill(self.lateral_conv)
        weight_init.c2_xavier_fill(self.fpn_conv)
        self.dilated_encoder_blocks = nn.Sequential(
            *(
                DilatedBlock(out_channels, block_mid_channels, dilation, norm)
                for dilation in block_dilations
            )
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.YOLOF.ENCODER."""
        settings = cfg.MODEL.YOLOF.ENCODER
        if any(dilation < 1 for dilation in settings.BLOCK_DILATIONS):
            raise ValueError(
                "MODEL.YOLOF.ENCODER.BLOCK_DILATIONS must be at least 1, one for each block; "
                f"got {list(settings.BLOCK_DILATIONS)}"
            )
        return {
            "in_channels": input_shape.channels,
            "out_channels": settings.NUM_CHANNELS,
            "block_mid_channels": settings.BLOCK_MID_CHANNELS,
            "block_dilations": settings.BLOCK_DILATIONS,
            "norm": settings.NORM,
        }

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = self.lateral_norm(self.lateral_conv(feature))
        x = self.fpn_norm(self.fpn_conv(x))
        return self.dilated_encoder_blocks(x)


class DilatedBlock(nn.Module):
    """Residual block of 1x1, dilated 3x3 and 1x1 convolutions."""

    def __init__(self, channels: int, mid_channels: int, dilation: int, norm: str):
        """norm: see `layers.get_norm`."""
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_norm_relu(channels, mid_channels, 1, norm))
        self.conv2 = nn.Sequential(*_conv_norm_relu(mid_channels, mid_channels, 3, norm, dilation))
        self.conv3 = nn.Sequential(*_conv_norm_relu(mid_channels, channels, 1, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.conv3(self.conv2(self.conv1(x)))


class Decoder(nn.Module):
    """Predictor of classes, boxes, and an objectness that is only trained by the class scores."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_anchors: int,
        cls_num_convs: int = 2,
        reg_num_convs: int = 4,
        norm: str = "BN",
        prior_prob: float = 0.01,
    ):
        """Describe the layers.

        Args:
            in_channels: channels of the encoder's features and of both towers.
            num_classes: K.
            num_anchors: A, number of anchors per cell.
            cls_num_convs, reg_num_convs: number of 3x3 convolutions before the classes, and before
                boxes and objectness.
            norm: see `layers.get_norm`.
            prior_prob: score of every class before training.
        """
        super().__init__()
        self.num_classes = num_classes
        self.num_anchors = num_anchors
        self.cls_subnet = _tower(in_channels, cls_num_convs, norm)
        self.bbox_subnet = _tower(in_channels, reg_num_convs, norm)
        self.cls_score = _conv(in_channels, num_anchors * num_classes, 3)
        self.bbox_pred = _conv(in_channels, num_anchors * 4, 3)
        self.object_pred = _conv(in_channels, num_anchors, 3)
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, num_anchors: int) -> dict:
        """Read MODEL.YOLOF.DECODER."""
        settings = cfg.MODEL.YOLOF.DECODER
        if not 0 < settings.PRIOR_PROB < 1:
            raise ValueError(
                f"MODEL.YOLOF.DECODER.PRIOR_PROB is {settings.PRIOR_PROB}; it must be in (0, 1)"
            )
        return {
            "in_channels": cfg.MODEL.YOLOF.ENCODER.NUM_CHANNELS,
            "num_classes": settings.NUM_CLASSES,
            "num_anchors": num_anchors,
            "cls_num_convs": settings.CLS_NUM_CONVS,
            "reg_num_convs": settings.REG_NUM_CONVS,
            "norm": settings.NORM,
            "prior_prob": settings.PRIOR_PROB,
        }

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to class logits (N, A * K, H, W) and deltas (N, A * 4, H, W)."""
        by_anchor = (self.num_anchors, -1)
        classes = self.cls_score(self.cls_subnet(feature)).unflatten(1, by_anchor)
        boxes = self.bbox_subnet(feature)
        objectness = self.object_pred(boxes).unflatten(1, by_anchor)  # (N, A, 1, H, W)
        logits = logit_of_product(classes.float(), objectness.float())  # (N, A, K, H, W)
        return logits.flatten(1, 2), self.bbox_pred(boxes)


def logit_of_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the logit of sigmoid(a) * sigmoid(b): a + b - log(1 + exp(a) + exp(b)), without
    overflow."""
    return a + b - torch.logaddexp(torch.logaddexp(a, b), torch.zeros_like(b))


def _tower(channels: int, num_convs: int, norm: str) -> nn.Sequential:
    layers = [_conv_norm_relu(channels, channels, 3, norm) for _ in range(num_convs)]
    return nn.Sequential(*(module for layer in layers for module in layer))


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, norm: str, dilation: int = 1
) -> list[nn.Module]:
    conv = _conv(in_channels, out_channels, kernel_size, dilation)
    return [conv, get_norm(norm, out_channels), nn.ReLU(inplace=True)]


def _conv(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Conv2d:
    # With a bias even before a norm, where it has no effect, since the authors' weights have it.
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
    )
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv
