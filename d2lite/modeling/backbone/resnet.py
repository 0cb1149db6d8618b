"""ResNet (He et al. 2016), ResNeXt (Xie et al. 2017) and their deformable stages."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import CNNBlockBase, ShapeSpec
from d2lite.modeling.backbone.backbone import Backbone
from d2lite.modeling.backbone.build import BACKBONE_REGISTRY
from d2lite.modeling.backbone.resnet_blocks import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNetBlockBase as ResNetBlockBase,
)
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import check_choice

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class ResNet(Backbone):
    """A stem and stages of blocks, called "stem", "res2", "res3" and so on."""

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ):
        """Assemble the network; stages after the last requested feature are left out.

        Args:
            stages: the blocks of each stage, usually four stages.
            num_classes: adds a classifier, whose output is called "linear".
            out_features: which of "stem", "res2", ..., "linear" to return; by default the last.
            freeze_at: how many parts to freeze, the stem being the first; see `freeze`.
        Raises:
            ValueError: for an unknown name in `out_features`.
        """
        super().__init__()
        names = [f"res{i}" for i in range(2, len(stages) + 2)]
        known = ["stem", *names] + (["linear"] if num_classes is not None else [])
        out_features = list(out_features) if out_features is not None else [known[-1]]
        _check_features(out_features, known)
        if "linear" not in out_features:
            stages = stages[: max(known.index(name) for name in out_features)]

        self.stem = stem
        self.num_classes = num_classes
        self.stages: list[nn.Sequential] = []
        channels, strides = {"stem": stem.out_channels}, {"stem": stem.stride}
        stride = stem.stride
        for name, blocks in zip(names, stages, strict=False):
            if not blocks:
                raise ValueError(f"stage {name} has no blocks")
            for block in blocks:
                if not isinstance(block, CNNBlockBase):
                    raise ArgumentError(
                        f"stage {name} has a {type(block).__name__}; use CNNBlockBase blocks"
                    )
            stage = nn.Sequential(*blocks)
            self.add_module(name, stage)
            self.stages.append(stage)
            stride *= math.prod(block.stride for block in blocks)
            channels[name], strides[name] = blocks[-1].out_channels, stride
        self.stage_names = tuple(names[: len(self.stages)])
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels[["stem", *self.stage_names][-1]], num_classes)
            # As in "ImageNet in 1 Hour" (Goyal et al. 2017, sec. 5.1).
            nn.init.normal_(self.linear.weight, std=0.01)
        self._out_features = out_features
        self._out_feature_channels = channels
        self._out_feature_strides = strides
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the requested features by name, (N, Ci, H / stride_i, W / stride_i)."""
        if x.dim() != 4:
            raise ArgumentError(f"ResNet takes images of shape (N, C, H, W), got {tuple(x.shape)}")
        outputs = {}
        x = self.stem(x)
        if "stem" in self._out_features:
            outputs["stem"] = x
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = stage(x)
            if name in self._out_features:
                outputs[name] = x
        if "linear" in self._out_features:
            outputs["linear"] = self.linear(self.avgpool(x).flatten(1))  # (N, num_classes)
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every requested feature; "linear" has no stride."""
        channels = {**self._out_feature_channels, "linear": self.num_classes}
        return {
            name: ShapeSpec(channels=channels[name], stride=self._out_feature_strides.get(name))
            for name in self._out_features
        }

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freeze the first `freeze_at` parts: 1 is the stem, 2 the stem and res2, and so on."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs,
    ) -> list[CNNBlockBase]:
        """Build the blocks of one stage.

        Args:
            in_channels: of the first block; the others take `out_channels`.
            kwargs: further arguments of `block_class`. An argument `x` that is given as
                `x_per_block` has one value for each block, such as `stride_per_block=[2, 1, 1]`.
        Raises:
            ValueError: a `_per_block` argument does not have one value for each block, or an
                argument is given in both forms.
        """
        per_block, shared = {}, {}
        for name, value in kwargs.items():
            if not name.endswith("_per_block"):
                shared[name] = value
                continue
            if len(value) != num_blocks:
                raise ArgumentError(f"{name} has {len(value)} values for {num_blocks} blocks")
            per_block[name.removesuffix("_per_block")] = value
        if both := per_block.keys() & shared.keys():
            raise ValueError(f"given both per block and for the whole stage: {sorted(both)}")
        blocks = []
        for i in range(num_blocks):
            own = {name: values[i] for name, values in per_block.items()}
            blocks.append(
                block_class(in_channels=in_channels, out_channels=out_channels, **own, **shared)
            )
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs
    ) -> list[list[CNNBlockBase]]:
        """Return the four stages of ResNet-18, 34, 50, 101 or 152.

        Args:
            block_class: BasicBlock up to depth 34 and BottleneckBlock above by default.
            kwargs: passed to every block, such as `norm`; channels and strides are the paper's.
        Raises:
            ValueError: the depth is unknown.
        """
        check_choice("depth", depth, BLOCKS_PER_STAGE)
        if block_class is None:
            block_class = BasicBlock if depth < 50 else BottleneckBlock
        # The last convolution of a bottleneck has four times the width of the others.
        widen = 1 if depth < 50 else 4
        stages = []
        in_channels = 64
        for i, num_blocks in enumerate(BLOCKS_PER_STAGE[depth]):
            width = 64 * 2**i
            if depth >= 50:
                kwargs["bottleneck_channels"] = width
            stages.append(
                ResNet.make_stage(
                    block_class,
                    num_blocks,
                    stride_per_block=_strides(1 if i == 0 else 2, num_blocks),
                    in_channels=in_channels,
                    out_channels=width * widen,
                    **kwargs,
                )
            )
            in_channels = width * widen
        return stages


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that MODEL.RESNETS describes.

    Raises:
        ValueError: for settings that do not fit together; the message names the key.
    """
    settings = cfg.MODEL.RESNETS
    _check_settings(settings)
    stem = BasicStem(
        in_channels=input_shape.channels,
        out_channels=settings.STEM_OUT_CHANNELS,
        norm=settings.NORM,
    )
    # ResNet drops the stages after the last requested one. They are still built, because they draw
    # random numbers: without these, layers built later would not get detectron2's initial weights.
    in_channels, stages = settings.STEM_OUT_CHANNELS, []
    for index in range(4):
        dilation = settings.RES5_DILATION if index == 3 else 1
        stages.append(
            make_configured_stage(
                settings,
                index,
                in_channels,
                first_stride=1 if index == 0 or dilation > 1 else 2,
                dilations=[dilation] * num_blocks_of_stage(settings, index),
            )
        )
        in_channels = settings.RES2_OUT_CHANNELS * 2**index
    return ResNet(
        stem,
        stages,
        out_features=settings.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def num_blocks_of_stage(settings: CfgNode, index: int) -> int:
    """Return the number of blocks in a stage of MODEL.RESNETS.DEPTH; index 0 is res2."""
    return BLOCKS_PER_STAGE[settings.DEPTH][index]


def make_configured_stage(
    settings: CfgNode,
    index: int,
    in_channels: int,
    *,
    first_stride: int,
    dilations: Sequence[int],
) -> list[CNNBlockBase]:
    """Build a stage with the blocks that MODEL.RESNETS asks for; index 0 is res2.

    Args:
        settings: MODEL.RESNETS.
        in_channels: of the first block.
        first_stride: stride of the first block.
        dilations: of the 3x3 convolution of each block; basic blocks have none.
    """
    num_blocks = len(dilations)
    arguments = {
        "stride_per_block": _strides(first_stride, num_blocks),
        "in_channels": in_channels,
        "out_channels": settings.RES2_OUT_CHANNELS * 2**index,
        "norm": settings.NORM,
    }
    if settings.DEPTH < 50:
        return ResNet.make_stage(BasicBlock, num_blocks, **arguments)
    arguments |= {
        "bottleneck_channels": settings.NUM_GROUPS * settings.WIDTH_PER_GROUP * 2**index,
        "stride_in_1x1": settings.STRIDE_IN_1X1,
        "dilation_per_block": dilations,
        "num_groups": settings.NUM_GROUPS,
    }
    if not settings.DEFORM_ON_PER_STAGE[index]:
        return ResNet.make_stage(BottleneckBlock, num_blocks, **arguments)
    return ResNet.make_stage(
        DeformBottleneckBlock,
        num_blocks,
        deform_modulated=settings.DEFORM_MODULATED,
        deform_num_groups=settings.DEFORM_NUM_GROUPS,
        **arguments,
    )


def _check_settings(settings: CfgNode) -> None:
    check_choice("MODEL.RESNETS.DEPTH", settings.DEPTH, BLOCKS_PER_STAGE)
    if settings.RES5_DILATION not in (1, 2):
        raise ArgumentError(f"MODEL.RESNETS.RES5_DILATION is {settings.RES5_DILATION}; use 1 or 2")
    if len(settings.DEFORM_ON_PER_STAGE) != 4:
        raise ValueError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE needs four values, for res2 to res5; "
            f"it has {len(settings.DEFORM_ON_PER_STAGE)}"
        )
    _check_features(
        settings.OUT_FEATURES,
        ["stem", "res2", "res3", "res4", "res5"],
        key="MODEL.RESNETS.OUT_FEATURES",
    )
    if settings.DEPTH >= 50:
        return
    # ResNet-18 and 34 have basic blocks, which cannot do all that bottleneck blocks can. Their res2
    # has 64 channels or fewer; more are most likely the bottlenecks' default, 256, left unchanged.
    needed = {
        "RES2_OUT_CHANNELS": min(settings.RES2_OUT_CHANNELS, 64),
        "RES5_DILATION": 1,
        "NUM_GROUPS": 1,
        "DEFORM_ON_PER_STAGE": [False] * 4,
    }
    for key, value in needed.items():
        if settings[key] != value:
            raise ArgumentError(
                f"MODEL.RESNETS.DEPTH {settings.DEPTH} needs MODEL.RESNETS.{key} {value}; "
                f"it is {settings[key]}"
            )


def _check_features(names: Sequence[str], known: list[str], key: str = "out_features") -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{key} is {list(names)}; use one or more of {known}")


def _strides(first: int, num_blocks: int) -> list[int]:
    return [first] + [1] * (num_blocks - 1)
