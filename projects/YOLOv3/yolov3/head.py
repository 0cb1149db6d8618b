"""The neck of three scales, and their predictions (YOLOv3, sec. 2.3)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.layers import Conv2d

from .darknet import conv_block


class YOLOv3Level(nn.Module):
    """Prediction on one scale, which also gets the features of the next coarser one."""

    def __init__(self, channels: int, coarser_channels: int, outputs: int, norm: str):
        """
        Args:
            channels: C of the feature; half as many are passed to the next finer scale.
            coarser_channels: channels from the next coarser scale; 0: there is none.
            outputs: channels of the prediction.
            norm: see `get_norm`.
        """
        super().__init__()
        half = channels // 2
        from_coarser = half if coarser_channels else 0
        self.reduce = (
            conv_block(coarser_channels, from_coarser, 1, norm) if coarser_channels else None
        )
        self.tower = nn.Sequential(
            conv_block(channels + from_coarser, half, 1, norm),
            conv_block(half, channels, 3, norm),
            conv_block(channels, half, 1, norm),
            conv_block(half, channels, 3, norm),
            conv_block(channels, half, 1, norm),
        )
        self.conv = conv_block(half, channels, 3, norm)
        self.pred = Conv2d(channels, outputs, kernel_size=1)

    def forward(self, feature: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict on one scale.

        Args:
            feature: (N, C, H, W).
            coarser: (N, coarser_channels, H / 2, W / 2), or None.
        Returns:
            (N, C / 2, H, W) for the next finer scale, and (N, outputs, H, W) predictions.
        """
        if self.reduce is not None:
            coarser = F.interpolate(self.reduce(coarser), scale_factor=2.0, mode="nearest")
            feature = torch.cat([coarser, feature], dim=1)
        x = self.tower(feature)
        return x, self.pred(self.conv(x))


class YOLOv3Head(nn.Module):
    """Head that predicts from the coarsest feature to the finest.

    A prediction has 4 box values, a logit for objectness and K class logits for each anchor.
    Convolutions are in the order of Darknet's files.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_anchors: int,
        num_classes: int,
        *,
        norm: str = "BN",
        prior_prob: float = 0.01,
    ):
        """
        Args:
            in_channels: channels of the features, by ascending stride.
            num_anchors: A, number of anchors per cell.
            num_classes: K.
            norm: see `get_norm`.
            prior_prob: objectness predicted before training.
        """
        super().__init__()
        coarser = 0
        levels = []
        for channels in reversed(in_channels):
            level = YOLOv3Level(channels, coarser, num_anchors * (5 + num_classes), norm)
            with torch.no_grad():
                nn.init.normal_(level.pred.weight, std=0.01)
                nn.init.zeros_(level.pred.bias)
                objectness = level.pred.bias.view(num_anchors, -1)[:, 4]
                objectness.fill_(-math.log((1 - prior_prob) / prior_prob))
            levels.append(level)
            coarser = channels // 2
        self.levels = nn.ModuleList(levels)  # from coarse to fine

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor]]:
        """Map (N, Ci, Hi, Wi) features, by ascending stride, to (N, A * (5 + K), Hi, Wi) each."""
        predictions, x = [], None
        for level, feature in zip(self.levels, reversed(features), strict=True):
            x, prediction = level(feature, x)
            predictions.append(prediction)
        return (predictions[::-1],)
