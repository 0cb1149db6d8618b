"""A ResNet with one stage that has branches of different dilation."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor

from d2lite.config import CfgNode
from d2lite.layers import CNNBlockBase, ShapeSpec, conv_with_norm, get_norm
from d2lite.modeling import BACKBONE_REGISTRY
from d2lite.modeling.backbone.resnet import (
    BasicStem,
    ResNet,
    make_configured_stage,
    num_blocks_of_stage,
)
from d2lite.utils.registry import check_choice

from .trident_conv import TridentConv


class TridentBottleneckBlock(CNNBlockBase):
    """Bottleneck block for several branches that share their weights (Li et al. 2019, sec. 3.2).

    The first block of a stage takes one tensor for all branches, the others take a list with one
    tensor per branch. The last block concatenates the branches in one batch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        num_branch: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        concat_output: bool = False,
        test_branch_idx: int = -1,
    ):
        """See `BottleneckBlock` and `TridentConv` for the other arguments.

        Args:
            concat_output: return one (B * N, C, H, W) tensor instead of a list.
        """
        super().__init__(in_channels, out_channels, stride)
        self.num_branch = num_branch
        self.concat_output = concat_output
        self.test_branch_idx = test_branch_idx
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)

        conv_1x1 = partial(conv_with_norm, kernel_size=1, norm=norm, bias=False)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = conv_1x1(in_channels, out_channels, stride=stride)
        self.conv1 = conv_1x1(in_channels, bottleneck_channels, stride=stride_1x1)
        self.conv2 = TridentConv(
            bottleneck_channels,
            bottleneck_channels,
            kernel_size=3,
            stride=stride_3x3,
            paddings=dilations,
            dilations=dilations,
            groups=num_groups,
            num_branch=num_branch,
            test_branch_idx=test_branch_idx,
            norm=get_norm(norm, bottleneck_channels),
        )
        self.conv3 = conv_1x1(bottleneck_channels, out_channels)
        # After all are created, and the shortcut last, so that a seed gives detectron2's weights.
        for layer in (self.conv1, self.conv2, self.conv3, self.shortcut):
            if layer is not None:
                weight_init.c2_msra_fill(layer)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """Map (N, in_channels, H, W), one or a list per branch, to (N, out_channels, H', W')."""
        is_one = self.test_branch_idx != -1 and not self.training
        if not isinstance(x, list):
            x = [x] * (1 if is_one else self.num_branch)
        out = self.conv2([F.relu_(self.conv1(branch)) for branch in x])
        out = [self.conv3(F.relu_(branch)) for branch in out]
        shortcuts = x if self.shortcut is None else [self.shortcut(branch) for branch in x]
        out = [F.relu_(branch + added) for branch, added in zip(out, shortcuts, strict=True)]
        return torch.cat(out) if self.concat_output else out


def make_trident_stage(
    block_class: type[CNNBlockBase], num_blocks: int, **kwargs
) -> list[CNNBlockBase]:
    """Build a stage with branches; see `ResNet.make_stage` for the arguments."""
    concat = [False] * (num_blocks - 1) + [True]
    return ResNet.make_stage(block_class, num_blocks, concat_output_per_block=concat, **kwargs)


@BACKBONE_REGISTRY.register()
def build_trident_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that MODEL.RESNETS describes, with the branches of MODEL.TRIDENT.

    Raises:
        ValueError: the settings do not fit together; the message names the key.
    """
    settings, trident_index = cfg.MODEL.RESNETS, _trident_index(cfg)
    stem = BasicStem(
        in_channels=input_shape.channels,
        out_channels=settings.STEM_OUT_CHANNELS,
        norm=settings.NORM,
    )
    last = max(trident_index, *(int(x[3:]) - 2 for x in settings.OUT_FEATURES if x != "stem"))
    in_channels, stages = settings.STEM_OUT_CHANNELS, []
    for index in range(last + 1):
        num_blocks = num_blocks_of_stage(settings, index)
        dilation = settings.RES5_DILATION if index == 3 else 1
        first_stride = 1 if index == 0 or dilation > 1 else 2
        out_channels = settings.RES2_OUT_CHANNELS * 2**index
        if index == trident_index:
            blocks = make_trident_stage(
                TridentBottleneckBlock,
                num_blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                bottleneck_channels=settings.NUM_GROUPS * settings.WIDTH_PER_GROUP * 2**index,
                stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                num_groups=settings.NUM_GROUPS,
                norm=settings.NORM,
                stride_in_1x1=settings.STRIDE_IN_1X1,
                num_branch=cfg.MODEL.TRIDENT.NUM_BRANCH,
                dilations=cfg.MODEL.TRIDENT.BRANCH_DILATIONS,
                test_branch_idx=cfg.MODEL.TRIDENT.TEST_BRANCH_IDX,
            )
        else:
            blocks = make_configured_stage(
                settings,
                index,
                in_channels,
                first_stride=first_stride,
                dilations=[dilation] * num_blocks,
            )
        stages.append(blocks)
        in_channels = out_channels
    return ResNet(
        stem,
        stages,
        out_features=settings.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def _trident_index(cfg: CfgNode) -> int:
    """Return the index of the stage with branches, 0 for res2."""
    settings, name = cfg.MODEL.RESNETS, cfg.MODEL.TRIDENT.TRIDENT_STAGE
    if settings.DEPTH not in (50, 101, 152):
        raise ValueError(
            f"MODEL.RESNETS.DEPTH is {settings.DEPTH}; TridentNet has bottleneck blocks: "
            "use 50, 101 or 152"
        )
    names = ["res2", "res3", "res4", "res5"]
    check_choice("MODEL.TRIDENT.TRIDENT_STAGE", name, names)
    unknown = set(settings.OUT_FEATURES) - {"stem", *names}
    if unknown or not settings.OUT_FEATURES:
        raise ValueError(
            f"MODEL.RESNETS.OUT_FEATURES is {list(settings.OUT_FEATURES)}; use one or more of "
            f"{['stem', *names]}"
        )
    index = names.index(name)
    if settings.DEFORM_ON_PER_STAGE[index]:
        raise ValueError(
            f"MODEL.TRIDENT.TRIDENT_STAGE is {name}, which cannot be deformable too: set number "
            f"{index} of MODEL.RESNETS.DEFORM_ON_PER_STAGE to False"
        )
    return index
