"""Point heads: small networks that classify individual points."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec, cat
from d2lite.structures import Instances
from d2lite.utils.events import log_scalar
from d2lite.utils.registry import Registry

POINT_HEAD_REGISTRY = Registry("POINT_HEAD", config_key="MODEL.POINT_HEAD.NAME")
POINT_HEAD_REGISTRY.__doc__ = """Callables (cfg, input_shape: ShapeSpec) -> nn.Module.

The module is called with (R, C, P) features of points, followed by the coarse prediction at the
points (StandardPointHead), or by the points and the parameters of each mask (ImplicitPointHead). It
returns (R, K, P) logits.
"""

POSITION_CHANNELS = 256  # of the encoded position of a point: half sines, half cosines


def build_point_head(cfg: CfgNode, input_channels: ShapeSpec) -> nn.Module:
    """Build the head named by MODEL.POINT_HEAD.NAME, for features of this shape."""
    return POINT_HEAD_REGISTRY.get(cfg.MODEL.POINT_HEAD.NAME)(cfg, input_channels)


def roi_mask_point_loss(
    mask_logits: Tensor, instances: Sequence[Instances], point_labels: Tensor
) -> Tensor:
    """Return the binary cross entropy of the true class's mask at points (sec. 3.1).

    Args:
        mask_logits: (R, K, P), or (R, 1, P) if all classes share one mask.
        instances: per image, with `gt_classes`; R in total.
        point_labels: (R, P) in [0, 1], or -1 for points whose loss is 0; the mean includes them.
    """
    if len(mask_logits) == 0:
        return mask_logits.sum() * 0
    if mask_logits.shape[1] == 1:
        logits = mask_logits[:, 0]
    else:
        gt_classes = cat([x.gt_classes for x in instances if len(x) > 0])
        logits = mask_logits[torch.arange(len(mask_logits), device=gt_classes.device), gt_classes]
    is_trained = point_labels != -1
    with torch.no_grad():
        # A label between 0 and 1 lies on an edge and counts as background.
        labels = point_labels[is_trained].to(torch.uint8)
        right = (logits[is_trained] > 0) == labels
        log_scalar("point/accuracy", right.sum() / max(right.numel(), 1))
    return F.binary_cross_entropy_with_logits(
        logits, point_labels.to(torch.float32), weight=is_trained.to(logits.dtype)
    )


@POINT_HEAD_REGISTRY.register()
class StandardPointHead(nn.Module):
    """Multilayer perceptron on the features of a point and its coarse prediction (sec. 3.3)."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        fc_dims: Sequence[int],
        cls_agnostic_mask: bool = False,
        coarse_pred_each_layer: bool = True,
    ):
        """Describe the layers.

        Args:
            input_shape: its `channels` are those of the features of a point.
            num_classes: K, the channels of the coarse prediction.
            fc_dims: widths of the hidden layers.
            cls_agnostic_mask: predict one mask for all classes.
            coarse_pred_each_layer: whether the coarse prediction is an input of every layer, not
                only of the first one.
        """
        super().__init__()
        self.coarse_pred_each_layer = coarse_pred_each_layer
        channels = input_shape.channels + num_classes
        self.fc_layers = []
        for k, width in enumerate(fc_dims, 1):
            layer = nn.Conv1d(channels, width, kernel_size=1)
            self.add_module(f"fc{k}", layer)
            self.fc_layers.append(layer)
            channels = width + (num_classes if coarse_pred_each_layer else 0)
        self.predictor = nn.Conv1d(channels, 1 if cls_agnostic_mask else num_classes, kernel_size=1)
        for layer in self.fc_layers:
            weight_init.c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.POINT_HEAD."""
        head = cfg.MODEL.POINT_HEAD
        return {
            "input_shape": input_shape,
            "num_classes": head.NUM_CLASSES,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "cls_agnostic_mask": head.CLS_AGNOSTIC_MASK,
            "coarse_pred_each_layer": head.COARSE_PRED_EACH_LAYER,
        }

    def forward(self, fine_grained_features: Tensor, coarse_features: Tensor) -> Tensor:
        """Map (R, C, P) features and (R, K, P) coarse logits to (R, K or 1, P) logits."""
        x = cat([fine_grained_features, coarse_features], dim=1)
        for layer in self.fc_layers:
            x = F.relu(layer(x))
            if self.coarse_pred_each_layer:
                x = cat([x, coarse_features], dim=1)
        return self.predictor(x)


@POINT_HEAD_REGISTRY.register()
class ImplicitPointHead(nn.Module):
    """Multilayer perceptron whose weights are predicted for every mask (Cheng et al. 2022, sec. 5).

    It has no parameters of its own. Its inputs are the point's position in the box, as sines and
    cosines of fixed random projections (Tancik et al. 2020), and the features at the point.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        channels: int,
        num_layers: int,
        image_feature_enabled: bool = True,
        positional_encoding_enabled: bool = True,
    ):
        """Describe the layers.

        Args:
            input_shape: its `channels` are those of the features of a point.
            num_classes: number of masks per object; 1 if all classes share one.
            channels: width of the hidden layers.
            num_layers: number of layers, including the last one; at least 2.
            image_feature_enabled, positional_encoding_enabled: which inputs are used.
        Raises:
            ValueError: no input is used, or there are too few layers.
        """
        super().__init__()
        if not image_feature_enabled and not positional_encoding_enabled:
            raise ValueError(
                "MODEL.IMPLICIT_POINTREND has both IMAGE_FEATURE_ENABLED and POS_ENC_ENABLED off; "
                "turn one on, since the point head needs an input"
            )
        if num_layers < 2:
            raise ValueError("MODEL.POINT_HEAD.NUM_FC must be at least 1 for ImplicitPointHead")
        self.num_layers = num_layers
        self.channels = channels
        self.num_classes = num_classes
        self.image_feature_enabled = image_feature_enabled
        self.positional_encoding_enabled = positional_encoding_enabled
        self.in_channels = input_shape.channels if image_feature_enabled else 0
        if positional_encoding_enabled:
            self.in_channels += POSITION_CHANNELS
            matrix = torch.randn(2, POSITION_CHANNELS // 2)
            self.register_buffer("positional_encoding_gaussian_matrix", matrix)
        inputs = [self.in_channels] + [channels] * (num_layers - 1)
        outputs = [channels] * (num_layers - 1) + [num_classes]
        self.num_weight_params = [i * o for i, o in zip(inputs, outputs, strict=True)]
        self.num_bias_params = outputs
        # Parameters of one mask: all weights, then all biases.
        self.num_params = sum(self.num_weight_params) + sum(self.num_bias_params)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.POINT_HEAD and MODEL.IMPLICIT_POINTREND."""
        head, implicit = cfg.MODEL.POINT_HEAD, cfg.MODEL.IMPLICIT_POINTREND
        return {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES,
            "channels": head.FC_DIM,
            "num_layers": head.NUM_FC + 1,
            "image_feature_enabled": implicit.IMAGE_FEATURE_ENABLED,
            "positional_encoding_enabled": implicit.POS_ENC_ENABLED,
        }

    def forward(
        self, fine_grained_features: Tensor, point_coords: Tensor, parameters: Tensor
    ) -> Tensor:
        """Classify points with the network of their mask.

        Args:
            fine_grained_features: (R, C, P).
            point_coords: (R, P, 2) in [0, 1].
            parameters: (R, num_params).
        Returns:
            (R, K, P) logits.
        """
        described = []
        if self.positional_encoding_enabled:
            # Sines and cosines, (R, 256, P).
            angles = 2 * math.pi * (2 * point_coords - 1) @ self.positional_encoding_gaussian_matrix
            described.append(torch.cat([angles.sin(), angles.cos()], dim=2).transpose(1, 2))
        if self.image_feature_enabled:
            described.append(fine_grained_features)
        x = cat(described, dim=1)  # (R, in_channels, P)
        for i, (weight, bias) in enumerate(self._split(parameters)):
            x = torch.baddbmm(bias, weight, x)
            if i < self.num_layers - 1:
                x = F.relu(x)
        return x

    def _split(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Split (R, num_params) into (R, out, in) weights and (R, out, 1) biases for each layer."""
        parts = parameters.split([*self.num_weight_params, *self.num_bias_params], dim=1)
        return [
            (weight.unflatten(1, (outputs, -1)), bias[:, :, None])
            for weight, bias, outputs in zip(
                parts[: self.num_layers],
                parts[self.num_layers :],
                self.num_bias_params,
                strict=True,
            )
        ]
