"""Mask heads that predict masks point by point."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import Conv2d, ShapeSpec, cat
from d2lite.modeling.roi_heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from d2lite.structures import Boxes, Instances

from .point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
    subdivide,
)
from .point_head import build_point_head, roi_mask_point_loss
from .weights import rename_on_load


def calculate_uncertainty(logits: Tensor, classes: Tensor) -> Tensor:
    """Return how close the mask of each object's class is to one half (sec. 3.1).

    Args:
        logits: (R, K, ...), or (R, 1, ...) if all classes share one mask.
        classes: (R,).
    Returns:
        (R, 1, ...): 0 for undecided points, and more negative for more certain ones.
    """
    if logits.shape[1] == 1:
        return -logits.abs()
    rows = torch.arange(len(logits), device=logits.device)
    return -logits[rows, classes][:, None].abs()


class ConvFCHead(nn.Module):
    """Convolutions that shrink the features of a box, then fully connected layers (sec. 4.1)."""

    _version = 2

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dim: int,
        fc_dims: Sequence[int],
        output_shape: Sequence[int],
    ):
        """Describe the layers.

        Args:
            input_shape: channels, height and width of the features of a box.
            conv_dim: channels of the convolutions; wider features are first reduced to this.
            fc_dims: widths of the fully connected layers, at least one.
            output_shape: shape of the prediction for a box.
        """
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.conv_layers = []
        if input_shape.channels > conv_dim:
            self.reduce_channel_dim_conv = Conv2d(
                input_shape.channels, conv_dim, kernel_size=1, activation=F.relu
            )
            self.conv_layers.append(self.reduce_channel_dim_conv)
        self.reduce_spatial_dim_conv = Conv2d(
            conv_dim, conv_dim, kernel_size=2, stride=2, activation=F.relu
        )
        self.conv_layers.append(self.reduce_spatial_dim_conv)

        width = conv_dim * input_shape.height * input_shape.width // 4
        self.fcs = []
        for k, fc_dim in enumerate(fc_dims, 1):
            layer = nn.Linear(width, fc_dim)
            self.add_module(f"fc{k}", layer)
            self.fcs.append(layer)
            width = fc_dim
        self.prediction = nn.Linear(width, math.prod(self.output_shape))
        nn.init.normal_(self.prediction.weight, std=0.001)
        nn.init.zeros_(self.prediction.bias)
        for layer in self.conv_layers:
            weight_init.c2_msra_fill(layer)
        for layer in self.fcs:
            weight_init.c2_xavier_fill(layer)
        rename_on_load(self, {"coarse_mask_fc": "fc"})

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.ROI_MASK_HEAD: a coarse mask for each class."""
        head = cfg.MODEL.ROI_MASK_HEAD
        side = head.OUTPUT_SIDE_RESOLUTION
        return {
            "input_shape": input_shape,
            "conv_dim": head.CONV_DIM,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "output_shape": (cfg.MODEL.ROI_HEADS.NUM_CLASSES, side, side),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) features of boxes to (R, *output_shape)."""
        for layer in self.conv_layers:
            x = layer(x)
        x = x.flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        return self.prediction(x).view(-1, *self.output_shape)


@ROI_MASK_HEAD_REGISTRY.register()
class PointRendMaskHead(nn.Module):
    """Coarse mask for each box, refined at uncertain points (PointRend, Kirillov et al. 2020).

    It takes the features of whole images, by name, not those of boxes, so
    MODEL.ROI_MASK_HEAD.POOLER_TYPE is "". Arguments are (cfg, input_shape), since subclasses
    replace `_init_point_head` and `_init_roi_head`, which read the config.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        """Build both heads.

        Args:
            input_shape: shapes of the features, by name.
        Raises:
            ValueError: the point head has a different number of classes than the other heads.
        """
        super().__init__()
        self._feature_scales = {name: 1.0 / shape.stride for name, shape in input_shape.items()}
        # The parameter head of Implicit PointRend needs to know the point head.
        self._init_point_head(cfg, input_shape)
        self.roi_pooler_in_features = cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES
        self.roi_pooler_size = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        channels = sum(input_shape[name].channels for name in self.roi_pooler_in_features)
        side = self.roi_pooler_size
        self._init_roi_head(cfg, ShapeSpec(channels=channels, width=side, height=side))

    def _init_roi_head(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        """Build the head that predicts from box features of shape `input_shape`."""
        self.coarse_head = ConvFCHead(cfg, input_shape)

    def _init_point_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        """Build the point head, and read its settings."""
        self.mask_point_on = cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON
        if not self.mask_point_on:
            return
        self._read_point_settings(cfg, input_shape)
        self.mask_point_oversample_ratio = cfg.MODEL.POINT_HEAD.OVERSAMPLE_RATIO
        self.mask_point_importance_sample_ratio = cfg.MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO
        # Steps that would predict all cells are skipped: inference starts from that grid.
        side = cfg.MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION
        steps = self.mask_point_subdivision_steps
        while 4 * side**2 <= self.mask_point_subdivision_num_points:
            side, steps = 2 * side, steps - 1
        self.mask_point_subdivision_init_resolution = side
        self.mask_point_subdivision_steps = steps

    def _read_point_settings(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        head, num_classes = cfg.MODEL.POINT_HEAD, cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if num_classes != head.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES is {head.NUM_CLASSES} and "
                f"MODEL.ROI_HEADS.NUM_CLASSES {num_classes}; they must be equal"
            )
        self.mask_point_in_features = head.IN_FEATURES
        self.mask_point_train_num_points = head.TRAIN_NUM_POINTS
        self.mask_point_subdivision_steps = head.SUBDIVISION_STEPS
        self.mask_point_subdivision_num_points = head.SUBDIVISION_NUM_POINTS
        channels = sum(input_shape[name].channels for name in self.mask_point_in_features)
        self.point_head = build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1))

    def forward(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return losses of the foreground in training; otherwise the instances with `pred_masks`.

        Args:
            features: by name, (N, C, Hi, Wi).
            instances: per image; in training with `proposal_boxes`, `gt_classes` and
                `gt_masks`, otherwise with `pred_boxes` and `pred_classes`.
        """
        if not self.training:
            coarse_mask = self.coarse_head(
                self._roi_pooler(features, [x.pred_boxes for x in instances])
            )
            if not self.mask_point_on:
                mask_rcnn_inference(coarse_mask, instances)
                return instances
            return self._subdivision_inference(features, coarse_mask, instances)
        boxes = [x.proposal_boxes for x in instances]
        coarse_mask = self.coarse_head(self._roi_pooler(features, boxes))
        losses = {"loss_mask": mask_rcnn_loss(coarse_mask, instances)}
        if not self.mask_point_on:
            return losses
        point_coords, point_labels = self._sample_train_points(coarse_mask, instances)
        point_features = self._point_pooler(features, boxes, point_coords)
        point_logits = self._get_point_logits(point_features, point_coords, coarse_mask)
        losses["loss_mask_point"] = roi_mask_point_loss(point_logits, instances, point_labels)
        return losses

    def _roi_pooler(self, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
        """Return (R, C, S, S) features of boxes, read at one point per cell on every level.

        This is like ROIAlign with a sampling ratio of 1, except that all levels are read, not one.
        """
        side = self.roi_pooler_size
        coords = generate_regular_grid_point_coords(
            sum(len(x) for x in boxes), side, boxes[0].device
        )
        pooled = self._sample(features, self.roi_pooler_in_features, boxes, coords)
        return pooled.unflatten(2, (side, side))

    def _point_pooler(
        self, features: dict[str, Tensor], boxes: list[Boxes], point_coords: Tensor
    ) -> Tensor:
        """Return (R, C, P) features at (R, P, 2) points of boxes."""
        return self._sample(features, self.mask_point_in_features, boxes, point_coords)

    def _sample(
        self,
        features: dict[str, Tensor],
        names: Sequence[str],
        boxes: list[Boxes],
        point_coords: Tensor,
    ) -> Tensor:
        scales = [self._feature_scales[name] for name in names]
        levels = [features[name] for name in names]
        return point_sample_fine_grained_features(levels, scales, boxes, point_coords)[0]

    @torch.no_grad()
    def _sample_train_points(
        self, coarse_mask: Tensor, instances: list[Instances]
    ) -> tuple[Tensor, Tensor]:
        """Return training points (R, P, 2) and their labels (R, P); see `sample_point_labels`."""
        gt_classes = cat([x.gt_classes for x in instances])
        point_coords = get_uncertain_point_coords_with_randomness(
            coarse_mask,
            lambda logits: calculate_uncertainty(logits, gt_classes),
            self.mask_point_train_num_points,
            self.mask_point_oversample_ratio,
            self.mask_point_importance_sample_ratio,
        )
        return point_coords, _labels_in_boxes(instances, point_coords)

    def _get_point_logits(
        self, fine_grained_features: Tensor, point_coords: Tensor, coarse_mask: Tensor
    ) -> Tensor:
        """Return (R, K, P) logits at (R, P, 2) points.

        Args:
            fine_grained_features: (R, C, P), from `_point_pooler`.
            coarse_mask: the coarse mask of every box, or what a subclass uses instead.
        """
        coarse_features = point_sample(coarse_mask, point_coords, align_corners=False)
        return self.point_head(fine_grained_features, coarse_features)

    def _subdivision_inference(
        self, features: dict[str, Tensor], mask_representations: Tensor, instances: list[Instances]
    ) -> list[Instances]:
        """Predict a regular grid, then repeatedly double it and predict uncertain points (fig. 4).

        Args:
            mask_representations: the third argument of `_get_point_logits`.
        """
        boxes = [x.pred_boxes for x in instances]
        classes = cat([x.pred_classes for x in instances])

        def predict(point_coords: Tensor) -> Tensor:
            point_features = self._point_pooler(features, boxes, point_coords)
            return self._get_point_logits(point_features, point_coords, mask_representations)

        # The coarse mask itself would do, but all of its few cells would be predicted anyway.
        side = self.mask_point_subdivision_init_resolution
        grid = generate_regular_grid_point_coords(len(classes), side, classes.device)
        mask_logits = predict(grid).unflatten(2, (side, side))
        for _ in range(self.mask_point_subdivision_steps if len(classes) > 0 else 0):
            mask_logits = subdivide(
                mask_logits,
                lambda logits: calculate_uncertainty(logits, classes),
                self.mask_point_subdivision_num_points,
                predict,
            )
        mask_rcnn_inference(mask_logits, instances)
        return instances


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendMaskHead(PointRendMaskHead):
    """Parameters of a point head for each box, and no coarse mask (Cheng et al. 2022, sec. 5)."""

    def _init_roi_head(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        self.parameter_head = ConvFCHead(cfg, input_shape, output_shape=(self.num_params,))
        self.regularizer = cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER

    def _init_point_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        self.mask_point_on = True
        self._read_point_settings(cfg, input_shape)
        self.num_params = self.point_head.num_params
        # The first grid has as many points as each step predicts.
        self.mask_point_subdivision_init_resolution = math.isqrt(
            self.mask_point_subdivision_num_points
        )
        if self.mask_point_subdivision_init_resolution**2 != self.mask_point_subdivision_num_points:
            raise ValueError(
                "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS is "
                f"{self.mask_point_subdivision_num_points}; Implicit PointRend starts from a "
                "square grid of this many points, so it must be a square number, such as 784"
            )

    def forward(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """See `PointRendMaskHead.forward`."""
        if not self.training:
            pooled = self._roi_pooler(features, [x.pred_boxes for x in instances])
            return self._subdivision_inference(features, self.parameter_head(pooled), instances)
        boxes = [x.proposal_boxes for x in instances]
        parameters = self.parameter_head(self._roi_pooler(features, boxes))
        mean_square = parameters.square().sum() / max(parameters.numel(), 1)  # 0 for no boxes
        losses = {"loss_l2": self.regularizer * mean_square}
        point_coords, point_labels = self._uniform_sample_train_points(instances)
        point_features = self._point_pooler(features, boxes, point_coords)
        point_logits = self._get_point_logits(point_features, point_coords, parameters)
        losses["loss_mask_point"] = roi_mask_point_loss(point_logits, instances, point_labels)
        return losses

    @torch.no_grad()
    def _uniform_sample_train_points(self, instances: list[Instances]) -> tuple[Tensor, Tensor]:
        """Return random training points (R, P, 2) and their labels (R, P)."""
        num_boxes = sum(len(x) for x in instances)
        device = instances[0].proposal_boxes.device
        point_coords = torch.rand(num_boxes, self.mask_point_train_num_points, 2, device=device)
        return point_coords, _labels_in_boxes(instances, point_coords)

    def _get_point_logits(
        self, fine_grained_features: Tensor, point_coords: Tensor, parameters: Tensor
    ) -> Tensor:
        """Return (R, K, P) logits at (R, P, 2) points; `parameters` are (R, num_params)."""
        return self.point_head(fine_grained_features, point_coords, parameters)


def _labels_in_boxes(instances: list[Instances], point_coords: Tensor) -> Tensor:
    """Return the labels of points that are relative to the `proposal_boxes`."""
    boxes = Boxes.cat([x.proposal_boxes for x in instances]).tensor
    return sample_point_labels(instances, get_point_coords_wrt_image(boxes, point_coords))
