"""A backbone that costs nothing, and images with ground truth, for tests of whole models."""

import torch
from torch import Tensor, nn

from d2lite.layers import ShapeSpec
from d2lite.modeling import BACKBONE_REGISTRY, Backbone
from d2lite.structures import BitMasks, Boxes, Instances

PIXELS = {"pixel_mean": [100.0, 100.0, 100.0], "pixel_std": [50.0, 50.0, 50.0]}


class TinyBackbone(Backbone):
    """Features "p3" (stride 8) and "p4" (stride 16), of 8 channels, one convolution each."""

    def __init__(self):
        super().__init__()
        self.p3 = nn.Conv2d(3, 8, 8, stride=8)
        self.p4 = nn.Conv2d(3, 8, 16, stride=16)

    @property
    def size_divisibility(self) -> int:
        return 16

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"p4": self.p4(x), "p3": self.p3(x)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            "p4": ShapeSpec(channels=8, stride=16),
            "p3": ShapeSpec(channels=8, stride=8),
        }


if "build_tiny_backbone" not in BACKBONE_REGISTRY:

    @BACKBONE_REGISTRY.register()
    def build_tiny_backbone(cfg, input_shape) -> TinyBackbone:
        return TinyBackbone()


def image(height: int = 48, width: int = 64) -> Tensor:
    return torch.randint(0, 255, (3, height, width), dtype=torch.uint8)


def target(height: int = 48, width: int = 64) -> Instances:
    """One object of class 1, from 8 to 40 along both axes."""
    mask = torch.zeros(1, height, width)
    mask[:, 8:40, 8:40] = 1
    return Instances(
        (height, width),
        gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])),
        gt_classes=torch.tensor([1]),
        gt_masks=BitMasks(mask),
    )


def no_target(height: int = 48, width: int = 64) -> Instances:
    return target(height, width)[torch.zeros(1, dtype=torch.bool)]
