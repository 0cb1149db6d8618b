"""torchvision's MobileNetV2 and V3 as backbones, with torchvision's parameter names.

V2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381.
V3: Howard et al. 2019, https://arxiv.org/abs/1905.02244.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision import models

from d2lite.config import CfgNode
from d2lite.layers import FrozenBatchNorm2d, ShapeSpec
from d2lite.modeling import BACKBONE_REGISTRY, FPN, Backbone
from d2lite.modeling.backbone.fpn import LastLevelMaxPool, build_fpn
from d2lite.utils.registry import check_choice, check_choices

ARCHITECTURES = {
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_large": models.mobilenet_v3_large,
    "mobilenet_v3_small": models.mobilenet_v3_small,
}
NORMS = ("BN", "FrozenBN", "SyncBN")


class MobileNet(Backbone):
    """The `features` of a torchvision MobileNet: "res1" to "res5" by stride, and "last"."""

    def __init__(
        self,
        arch: str = "mobilenet_v2",
        *,
        width_mult: float = 1.0,
        norm: str = "BN",
        out_features: Sequence[str] = ("last",),
        freeze_at: int = 0,
    ):
        """Build the network with random weights.

        Args:
            arch: a name in ARCHITECTURES.
            width_mult: factor on the channels.
            norm: a name in NORMS.
            out_features: "res1" to "res5": the deepest feature with stride 2, 4, ..., 32 before the
                last convolution; "last": the feature after it, with stride 32.
            freeze_at: k freezes all layers up to "res<k>" and converts their norms to frozen ones;
                0 freezes nothing.
        Raises:
            ValueError: an architecture, norm or feature is unknown.
        """
        super().__init__()
        check_choice("MODEL.MOBILENET.ARCH", arch, ARCHITECTURES)
        check_choice("MODEL.MOBILENET.NORM", norm, NORMS)
        self.features = ARCHITECTURES[arch](weights=None, width_mult=width_mult).features
        levels = _levels(self.features)
        last = len(levels) - 1
        # For each stride, the index of the deepest layer is kept; the last layer has its own name.
        index_of = {f"res{level}": i for i, level in enumerate(levels[:last])} | {"last": last}
        check_choices("MODEL.MOBILENET.OUT_FEATURES", out_features, index_of)
        self._index_of = {name: index_of[name] for name in out_features}
        self._out_features = list(out_features)
        indices = self._index_of.items()
        self._out_feature_channels = {name: self.features[i].out_channels for name, i in indices}
        self._out_feature_strides = {name: 2 ** levels[i] for name, i in indices}
        num_frozen = sum(level <= freeze_at for level in levels[:last]) if freeze_at else 0
        for i in range(num_frozen):
            for parameter in self.features[i].parameters():
                parameter.requires_grad = False
            self.features[i] = FrozenBatchNorm2d.convert_frozen_batchnorm(self.features[i])
        if norm == "FrozenBN":
            self.features = FrozenBatchNorm2d.convert_frozen_batchnorm(self.features)
        elif norm == "SyncBN":
            self.features = nn.SyncBatchNorm.convert_sync_batchnorm(self.features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) to the features by name, (N, Ci, H / stride_i, W / stride_i)."""
        outputs = []
        for layer in self.features[: max(self._index_of.values()) + 1]:
            x = layer(x)
            outputs.append(x)
        return {name: outputs[i] for name, i in self._index_of.items()}

    @property
    def size_divisibility(self) -> int:
        """The largest stride, so that no layer has to round a size."""
        return max(self._out_feature_strides.values())


@BACKBONE_REGISTRY.register()
def build_mobilenet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MobileNet:
    """Build the network that MODEL.MOBILENET describes."""
    if input_shape.channels != 3:
        raise ValueError(
            f"MobileNet takes images of 3 channels, but MODEL.PIXEL_MEAN has {input_shape.channels}"
        )
    settings = cfg.MODEL.MOBILENET
    return MobileNet(
        settings.ARCH,
        width_mult=settings.WIDTH_MULT,
        norm=settings.NORM,
        out_features=settings.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


@BACKBONE_REGISTRY.register()
def build_mobilenet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a MobileNet with FPN levels for MODEL.FPN.IN_FEATURES and a pooled one above them."""
    return build_fpn(cfg, build_mobilenet_backbone(cfg, input_shape), LastLevelMaxPool())


def _levels(layers: nn.Sequential) -> list[int]:
    """Return log2 of the stride after each layer."""
    levels, level = [], 0
    for layer in layers:
        strides = [m.stride[0] for m in layer.modules() if isinstance(m, nn.Conv2d)]
        level += max(strides).bit_length() - 1
        levels.append(level)
    return levels
