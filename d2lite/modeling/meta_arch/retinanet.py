"""RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import CycleBatchNormList, ShapeSpec, get_norm
from d2lite.modeling.anchor_generator import build_anchor_generator
from d2lite.modeling.backbone import Backbone, build_backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.box_losses import box_loss
from d2lite.modeling.box_regression import Box2BoxTransform, dense_box_regression_loss
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.focal_detector import FocalDetector
from d2lite.structures import Boxes, Instances, pairwise_iou
from d2lite.utils.errors import ArgumentError

__all__ = ["RetinaNet"]

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class RetinaNet(FocalDetector):
    """Anchors at every cell, classified with the focal loss."""

    # Config keys with a count of classes, and the metadata that each counts.
    class_count_keys = {"MODEL.RETINANET.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ):
        """Compose the model.

        Args:
            head: from L levels of features to L of class logits (N, A * K, Hi, Wi) and L of
                deltas (N, A * 4, Hi, Wi).
            head_in_features: names of the features, one for each level of the anchors.
            anchor_matcher: labels anchors by their IoU with the ground truth.
            num_classes: K; background gets index K in labels, but no logit.
            focal_loss_alpha, focal_loss_gamma: see `focal_loss_of_labels`.
            smooth_l1_beta: below this difference the smooth L1 loss is quadratic.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            test_score_thresh: detections with lower scores are dropped.
            test_topk_candidates: candidates of each level that are decoded.
            test_nms_thresh: IoU above which the worse of two boxes of one class is dropped.
            max_detections_per_image: detections kept of each image.
            pixel_mean, pixel_std: one value for each channel, as images come.
            vis_period: iterations between pictures of detections put into the event storage; 0
                for none.
            input_format: order of the channels, such as "BGR".
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        box_loss(box_reg_loss_type)  # fails now if there is none of that name
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.vis_period = vis_period
        self.input_format = input_format
        self.loss_normalizer = torch.tensor(100.0)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.RETINANET and build the parts that the config names."""
        retinanet = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = select_features(
            backbone.output_shape(), retinanet.IN_FEATURES, "MODEL.RETINANET.IN_FEATURES"
        )
        return {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, shapes),
            "head_in_features": retinanet.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=retinanet.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(
                retinanet.IOU_THRESHOLDS, retinanet.IOU_LABELS, allow_low_quality_matches=True
            ),
            "num_classes": retinanet.NUM_CLASSES,
            "focal_loss_alpha": retinanet.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": retinanet.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": retinanet.SCORE_THRESH_TEST,
            "test_topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": retinanet.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Focal loss of all anchors but ignored ones, and the box loss of the foreground.

        Both are divided by a running average of the number of foreground anchors.

        Args:
            anchors: of each level.
            pred_logits: of each level (N, Ri, K).
            gt_labels, gt_boxes: of each image, see `label_anchors`.
            pred_anchor_deltas: of each level (N, Ri, 4).
        """
        loss_cls, positive, normalizer = self._class_loss(pred_logits, gt_labels)
        loss_box_reg = dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            positive,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return {"loss_cls": loss_cls / normalizer, "loss_box_reg": loss_box_reg / normalizer}

    def _label_one_image(self, anchors: list[Boxes], gt: Instances) -> tuple[Tensor, Tensor]:
        all_anchors = Boxes.cat(anchors)
        gt_index, match_labels = self.anchor_matcher(pairwise_iou(gt.gt_boxes, all_anchors))
        if len(gt) == 0:
            return torch.full_like(gt_index, self.num_classes), torch.zeros_like(all_anchors.tensor)
        labels = gt.gt_classes[gt_index]
        labels.masked_fill_(match_labels == 0, self.num_classes)
        labels.masked_fill_(match_labels == -1, -1)
        return labels, gt.gt_boxes.tensor[gt_index]

    def _scores(self, pred_logits: list[Tensor]) -> list[Tensor]:
        return [x.sigmoid() for x in pred_logits]


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, for classes and for boxes; levels share their weights."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: str | Callable[[int], nn.Module] = "",
        prior_prob: float = 0.01,
    ):
        """Describe the layers.

        Args:
            input_shape: of each level; all have the channels of the first.
            num_classes: K.
            num_anchors: A, anchors per cell.
            conv_dims: channels of the convolutions of each tower.
            norm: normalization after each of them, see `get_norm`. "BN" and "SyncBN" keep
                statistics of their own for each level, since levels differ.
            prior_prob: score of every class before training. With a fair prior the many
                background anchors would swamp the first steps (sec. 4.1).
        """
        super().__init__()
        self._num_features = len(input_shape)
        make_norm = _norm_by_level(norm, self._num_features)
        widths = [input_shape[0].channels, *conv_dims]
        towers: tuple[list[nn.Module], list[nn.Module]] = ([], [])
        # The towers grow side by side, and weights are filled once all layers exist: the order in
        # which a seed gives detectron2's weights.
        for in_channels, out_channels in itertools.pairwise(widths):
            for tower in towers:
                tower.append(nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1))
                norm_layer = make_norm(out_channels)
                tower.extend([norm_layer] if norm_layer is not None else [])
                tower.append(nn.ReLU(inplace=True))
        self.cls_subnet, self.bbox_subnet = (nn.Sequential(*tower) for tower in towers)
        self.cls_score = nn.Conv2d(widths[-1], num_anchors * num_classes, kernel_size=3, padding=1)
        self.bbox_pred = nn.Conv2d(widths[-1], num_anchors * 4, kernel_size=3, padding=1)
        for part in (self.cls_subnet, self.bbox_subnet, self.cls_score, self.bbox_pred):
            init_convs(part)
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Read MODEL.RETINANET; anchors per cell come from the configured generator."""
        num_anchors = build_anchor_generator(cfg, input_shape).num_anchors
        if len(set(num_anchors)) != 1:
            raise ArgumentError(
                "RetinaNet shares its head between levels, so all need equally many anchors per "
                f"cell; MODEL.ANCHOR_GENERATOR gives {num_anchors}"
            )
        retinanet = cfg.MODEL.RETINANET
        return {
            "input_shape": input_shape,
            "num_classes": retinanet.NUM_CLASSES,
            "num_anchors": num_anchors[0],
            "conv_dims": [input_shape[0].channels] * retinanet.NUM_CONVS,
            "norm": retinanet.NORM,
            "prior_prob": retinanet.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """L levels of (N, C, Hi, Wi) -> L of (N, A * K, Hi, Wi) and L of (N, A * 4, Hi, Wi)."""
        logits, box_features = self._towers(features)
        return logits, [self.bbox_pred(x) for x in box_features]

    def _towers(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of each level the class logits, and what the box is predicted from."""
        assert len(features) == self._num_features, (
            f"the head was built for {self._num_features} levels, found {len(features)}"
        )
        # Tower by tower: normalization by level counts its calls.
        logits = [self.cls_score(self.cls_subnet(x)) for x in features]
        return logits, [self.bbox_subnet(x) for x in features]


def init_convs(part: nn.Module) -> None:
    """Give all convolutions of a head small random weights (sec. 4.1) and no bias."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


def _norm_by_level(
    norm: str | Callable[[int], nn.Module], num_levels: int
) -> Callable[[int], nn.Module | None]:
    """From channels to a normalization; batch norms have statistics for each level."""
    by_name = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}
    if norm in by_name:
        logger.info("The head keeps %s statistics for each of %d levels", norm, num_levels)
        bn_class = by_name[norm]
        return lambda channels: CycleBatchNormList(
            length=num_levels, bn_class=bn_class, num_features=channels
        )
    if isinstance(norm, str) and "BN" in norm:
        logger.warning("All levels share the statistics of %s, which may not work well", norm)
    return lambda channels: get_norm(norm, channels)
