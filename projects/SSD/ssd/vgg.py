"""VGG-16 (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556) for Faster R-CNN.

Parameters have torchvision's names, so that its ImageNet weights load by
`torchvision://vgg16?matching_heuristics=True`, those of the fully connected layers included.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision import models

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling import BACKBONE_REGISTRY, ROI_BOX_HEAD_REGISTRY, Backbone
from d2lite.utils.registry import check_choices


def vgg16_layers() -> nn.Sequential:
    """Return the 31 convolutions, ReLUs and poolings of torchvision's VGG-16, with random
    weights."""
    layers = models.vgg.make_layers(models.vgg.cfgs["D"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return layers


def pooling_indices(layers: nn.Sequential) -> list[int]:
    """Return the indices of the five poolings, each of which ends a block."""
    return [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]


def freeze_blocks(layers: nn.Sequential, freeze_at: int) -> None:
    """Stop training the first `freeze_at` blocks of convolutions (0 to 5)."""
    end = pooling_indices(layers)[freeze_at - 1] if freeze_at else 0
    for layer in layers[:end]:
        for parameter in layer.parameters():
            parameter.requires_grad = False


class VGG16(Backbone):
    """The convolutions of VGG-16: "conv1" to "conv5", with strides 1, 2, 4, 8 and 16."""

    def __init__(self, out_features: Sequence[str] = ("conv5",), freeze_at: int = 0):
        """
        Args:
            out_features: blocks whose last feature, before the pooling, is returned.
            freeze_at: number of blocks that are not trained.
        Raises:
            ValueError: a feature is unknown.
        """
        super().__init__()
        self.features = vgg16_layers()
        ends = {f"conv{k}": i for k, i in enumerate(pooling_indices(self.features), 1)}
        check_choices("MODEL.VGG.OUT_FEATURES", out_features, ends)
        self._ends = {ends[name]: name for name in out_features}
        freeze_blocks(self.features, freeze_at)
        self._out_features = list(out_features)
        self._out_feature_strides = {name: 2 ** (int(name[-1]) - 1) for name in out_features}
        self._out_feature_channels = {
            name: (64, 128, 256, 512, 512)[int(name[-1]) - 1] for name in out_features
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) to the features by name, (N, Ci, H / stride_i, W / stride_i)."""
        features = {}
        for i, layer in enumerate(self.features[: max(self._ends) + 1]):
            if i in self._ends:
                features[self._ends[i]] = x
            x = layer(x)
        return {name: features[name] for name in self._out_features}

    @property
    def size_divisibility(self) -> int:
        """The largest stride, so that no pooling has to round a size."""
        return max(self._out_feature_strides.values())


@BACKBONE_REGISTRY.register()
def build_vgg16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG16:
    """Build VGG-16 with the features of MODEL.VGG.OUT_FEATURES."""
    return VGG16(cfg.MODEL.VGG.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)


@ROI_BOX_HEAD_REGISTRY.register()
class VGGBoxHead(nn.Module):
    """VGG-16's fully connected layers fc6 and fc7 with dropout (Fast R-CNN, sec. 2.2)."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, width: int = 4096):
        """
        Args:
            input_shape: shape of the pooled features; ImageNet weights need 512 channels, 7 x 7.
            width: width of both layers.
        """
        super().__init__()
        inputs = input_shape.channels * input_shape.height * input_shape.width
        self.classifier = nn.Sequential(  # numbered as torchvision's
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(),
        )
        self.output_shape = ShapeSpec(channels=width)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {"input_shape": input_shape, "width": cfg.MODEL.ROI_BOX_HEAD.FC_DIM}

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to (R, width)."""
        return self.classifier(x.flatten(1))
