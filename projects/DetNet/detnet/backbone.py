"""DetNet: A Backbone network for Object Detection (Li et al. 2018)."""

from collections.abc import Sequence

from fvcore.nn import weight_init

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec, conv_with_norm
from d2lite.modeling import BACKBONE_REGISTRY
from d2lite.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from d2lite.utils.registry import check_choices

FEATURES = ("stem", "res2", "res3", "res4", "res5", "res6")
NUM_STAGES = 5


class DilatedBottleneckBlock(BottleneckBlock):
    """Bottleneck A or B of the paper (fig. 2): with an identity or a projected shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        project: bool,
        dilation: int = 2,
        norm: str = "BN",
    ):
        """See `BottleneckBlock` for the other arguments.

        Args:
            project: use a 1x1 convolution on the shortcut even if channels do not change (B).
        """
        super().__init__(
            in_channels,
            out_channels,
            bottleneck_channels=bottleneck_channels,
            dilation=dilation,
            norm=norm,
        )
        if project and self.shortcut is None:
            self.shortcut = conv_with_norm(in_channels, out_channels, 1, norm=norm, bias=False)
            weight_init.c2_msra_fill(self.shortcut)


class DetNet(ResNet):
    """ResNet up to res4, followed by two dilated stages that keep stride 16.

    Stages are counted as in `ResNet`: the paper's stages 5 and 6 are "res5" and "res6". Up to
    res4, parameters have the names and shapes of a ResNet's.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_blocks: Sequence[int] = (3, 4, 6, 3, 3),
        stem_channels: int = 64,
        res2_channels: int = 256,
        res2_bottleneck_channels: int = 64,
        dilated_channels: int = 1024,
        dilated_bottleneck_channels: int = 256,
        dilation: int = 2,
        norm: str = "BN",
        dilated_norm: str = "",
        stride_in_1x1: bool = False,
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ):
        """Build the network with random weights.

        Args:
            in_channels: channels of the images.
            num_blocks: number of blocks in res2 to res6.
            stem_channels, res2_channels: channels of the features; res3 and res4 each double those
                of the stage before.
            res2_bottleneck_channels: channels within the blocks of res2; doubled likewise.
            dilated_channels, dilated_bottleneck_channels: channels of res5 and res6, and within
                their blocks.
            dilation: dilation of the 3x3 convolutions of res5 and res6.
            norm: see `layers.get_norm`.
            dilated_norm: norm of res5 and res6; "" for `norm`.
            stride_in_1x1, num_classes, out_features, freeze_at: see `ResNet`; with `num_classes`,
                "linear" is the output of the classifier for ImageNet.
        """
        stages = []
        channels = stem_channels
        for i in range(3):
            stages.append(
                ResNet.make_stage(
                    BottleneckBlock,
                    num_blocks[i],
                    stride_per_block=[1 if i == 0 else 2] + [1] * (num_blocks[i] - 1),
                    in_channels=channels,
                    out_channels=res2_channels * 2**i,
                    bottleneck_channels=res2_bottleneck_channels * 2**i,
                    norm=norm,
                    stride_in_1x1=stride_in_1x1,
                )
            )
            channels = res2_channels * 2**i
        for count in num_blocks[3:]:
            stages.append(
                ResNet.make_stage(
                    DilatedBottleneckBlock,
                    count,
                    project_per_block=[True] + [False] * (count - 1),  # block B, then blocks A
                    in_channels=channels,
                    out_channels=dilated_channels,
                    bottleneck_channels=dilated_bottleneck_channels,
                    dilation=dilation,
                    norm=dilated_norm or norm,
                )
            )
            channels = dilated_channels
        stem = BasicStem(in_channels, stem_channels, norm)
        super().__init__(stem, stages, num_classes, out_features, freeze_at)


@BACKBONE_REGISTRY.register()
def build_detnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DetNet:
    """Build the network that MODEL.DETNET describes.

    Raises:
        ValueError: a setting is not possible; the message names the key.
    """
    settings = cfg.MODEL.DETNET
    _check_settings(settings)
    return DetNet(
        in_channels=input_shape.channels,
        num_blocks=settings.NUM_BLOCKS,
        stem_channels=settings.STEM_OUT_CHANNELS,
        res2_channels=settings.RES2_OUT_CHANNELS,
        res2_bottleneck_channels=settings.RES2_BOTTLENECK_CHANNELS,
        dilated_channels=settings.DILATED_OUT_CHANNELS,
        dilated_bottleneck_channels=settings.DILATED_BOTTLENECK_CHANNELS,
        dilation=settings.DILATION,
        norm=settings.NORM,
        dilated_norm=settings.DILATED_NORM,
        stride_in_1x1=settings.STRIDE_IN_1X1,
        out_features=settings.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def _check_settings(settings: CfgNode) -> None:
    blocks = settings.NUM_BLOCKS
    if len(blocks) != NUM_STAGES or min(blocks) < 1:
        raise ValueError(
            f"MODEL.DETNET.NUM_BLOCKS is {list(blocks)}; give {NUM_STAGES} numbers of at "
            "least 1, for res2 to res6"
        )
    if settings.DILATION < 1:
        raise ValueError(f"MODEL.DETNET.DILATION is {settings.DILATION}; it must be at least 1")
    if not settings.OUT_FEATURES:
        raise ValueError(f"MODEL.DETNET.OUT_FEATURES is empty; use some of {list(FEATURES)}")
    check_choices("MODEL.DETNET.OUT_FEATURES", settings.OUT_FEATURES, FEATURES)
