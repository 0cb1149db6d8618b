"""The neck of three scales, and their predictions (YOLOv3, sec. 2.3)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.layers import Conv2d

from .darknet import conv_block


class YOLOv3Level(nn.Module):
    """One scale: takes the next coarser one in, and predicts."""

    def __init__(self, channels: int, coarser_channels: int, outputs: int, norm: str):
        """
        Args:
            channels: C of the feature; half as many go on to the next finer scale.
            coarser_channels: of what comes from the next coarser scale; 0: there is none.
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
        """(N, C, H, W) and (N, coarser_channels, H / 2, W / 2), or None.

        Returns:
            (N, C / 2, H, W) for the next finer scale, and (N, outputs, H, W) predictions.
        """
        if self.reduce is not None:
            coarser = F.interpolate(self.reduce(coarser), scale_factor=2.0, mode="nearest")
            feature = torch.cat([coarser, feature], dim=1)
        x = self.tower(feature)
        return x, self.pred(self.conv(x))


class YOLOv3Head(nn.Module):
    """From the coarsest feature to the finest; convolutions stand in the order of Darknet's files.

    A prediction has, for each anchor, 4 box values, the logit of objectness and K of the classes.
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
            in_channels: of the features, by ascending stride.
            num_anchors: A, of each feature.
            num_classes: K.
            norm: see `get_norm`.
            prior_prob: objectness that is predicted at first.
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
        """L levels of (N, Ci, Hi, Wi), by ascending stride -> those of (N, A * (5 + K), Hi, Wi)."""
        predictions, x = [], None
        for level, feature in zip(self.levels, reversed(features), strict=True):
            x, prediction = level(feature, x)
            predictions.append(prediction)
        return (predictions[::-1],)
