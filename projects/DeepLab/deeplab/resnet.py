"""The ResNet of DeepLab: a deeper stem, and dilation in place of stride in the last stages."""

import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor

from d2lite.config import CfgNode
from d2lite.layers import CNNBlockBase, ShapeSpec, conv_with_norm
from d2lite.modeling.backbone import BACKBONE_REGISTRY, BasicStem, ResNet
from d2lite.modeling.backbone.resnet import make_configured_stage, num_blocks_of_stage
from d2lite.utils.registry import check_choice


class DeepLabStem(CNNBlockBase):
    """Three 3x3 convolutions and a 3x3 max pooling, with a total stride of 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: str = "BN"):
        """out_channels: channels of the last convolution; the others have half as many."""
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        self.conv1 = conv_with_norm(in_channels, half, norm=norm, stride=2, bias=False)
        self.conv2 = conv_with_norm(half, half, norm=norm, bias=False)
        self.conv3 = conv_with_norm(half, out_channels, norm=norm, bias=False)
        for conv in (self.conv1, self.conv2, self.conv3):
            weight_init.c2_msra_fill(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / 4, W / 4)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


STEMS = {"basic": BasicStem, "deeplab": DeepLabStem}


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that MODEL.RESNETS describes, with the settings that DeepLab adds.

    Raises:
        ValueError: the settings do not fit together; the message names the key.
    """
    settings = cfg.MODEL.RESNETS
    _check_settings(settings)
    stem = STEMS[settings.STEM_TYPE](
        in_channels=input_shape.channels,
        out_channels=settings.STEM_OUT_CHANNELS,
        norm=settings.NORM,
    )
    dilations = {4: settings.RES4_DILATION, 5: settings.RES5_DILATION}
    in_channels, stages = settings.STEM_OUT_CHANNELS, []
    for index in range(max(int(name[3:]) for name in settings.OUT_FEATURES) - 1):
        dilation = dilations.get(index + 2, 1)
        grid = [1] * num_blocks_of_stage(settings, index)
        if index == 3:
            grid = settings.RES5_MULTI_GRID
        stages.append(
            make_configured_stage(
                settings,
                index,
                in_channels,
                first_stride=1 if index == 0 or dilation > 1 else 2,
                dilations=[dilation * factor for factor in grid],
            )
        )
        in_channels = settings.RES2_OUT_CHANNELS * 2**index
    return ResNet(
        stem, stages, out_features=settings.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _check_settings(settings: CfgNode) -> None:
    if settings.DEPTH not in (50, 101, 152):
        raise ValueError(
            f"MODEL.RESNETS.DEPTH is {settings.DEPTH}; the backbone of DeepLab has bottleneck "
            "blocks: use 50, 101 or 152"
        )
    check_choice("MODEL.RESNETS.STEM_TYPE", settings.STEM_TYPE, STEMS)
    dilations = settings.RES4_DILATION, settings.RES5_DILATION
    if dilations not in ((1, 1), (1, 2), (1, 4), (2, 4)):
        raise ValueError(
            "MODEL.RESNETS.RES4_DILATION and RES5_DILATION are {} and {}; use 1 and 1 (stride 32), "
            "1 and 2 (stride 16) or 2 and 4 (stride 8)".format(*dilations)
        )
    known = ["res2", "res3", "res4", "res5"]
    if not settings.OUT_FEATURES or not set(settings.OUT_FEATURES) <= set(known):
        raise ValueError(
            f"MODEL.RESNETS.OUT_FEATURES is {list(settings.OUT_FEATURES)}; use one or more of "
            f"{known}"
        )
    blocks = num_blocks_of_stage(settings, 3)
    if "res5" in settings.OUT_FEATURES and len(settings.RES5_MULTI_GRID) != blocks:
        raise ValueError(
            f"MODEL.RESNETS.RES5_MULTI_GRID is {list(settings.RES5_MULTI_GRID)}; give {blocks} "
            "numbers, one for each block of res5"
        )
