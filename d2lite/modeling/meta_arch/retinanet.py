"""RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002).

In the order of section 4 of the paper: the head on FPN levels, the model with its losses,
inference.
"""

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
from d2lite.modeling.box_regression import Box2BoxTransform, box_loss, dense_box_regression_loss
from d2lite.modeling.detection_steps import (
    class_labels,
    is_foreground,
    matched_boxes,
    nms_detections,
)
from d2lite.modeling.focal_loss import focal_loss_of_labels
from d2lite.modeling.matcher import Matcher, match_boxes
from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import log_scalar

logger = logging.getLogger(__name__)


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, for classes and boxes, with weights shared by all levels."""

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
            input_shape: per level; all must have the same channels.
            num_classes: K.
            num_anchors: A, anchors per cell.
            conv_dims: channels of the convolutions in each tower.
            norm: normalization after each convolution, see `get_norm`. "BN" and "SyncBN" have
                separate statistics for each level, since levels differ.
            prior_prob: initial score of every class. With an initial score of 0.5, the loss of the
                many background anchors would dominate the first steps (sec. 3.3).
        """
        super().__init__()
        self._num_features = len(input_shape)
        make_norm = _norm_by_level(norm, self._num_features)
        widths = [input_shape[0].channels, *conv_dims]
        towers: tuple[list[nn.Module], list[nn.Module]] = ([], [])
        # Create the layers of both towers in turn and initialize them at the end: in this order, a
        # seed gives detectron2's weights.
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
        """Read MODEL.RETINANET; the anchor generator sets the anchors per cell."""
        num_anchors = build_anchor_generator(cfg, input_shape).num_anchors
        if len(set(num_anchors)) != 1:
            raise ArgumentError(
                "RetinaNet shares its head between levels, so all need the same number of anchors "
                f"per cell; MODEL.ANCHOR_GENERATOR gives {num_anchors}"
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
        """Return for each level the class logits, and the features that predict the box."""
        assert len(features) == self._num_features, (
            f"the head was built for {self._num_features} levels, found {len(features)}"
        )
        # One tower after the other, because normalization per level counts its calls.
        logits = [self.cls_score(self.cls_subnet(x)) for x in features]
        return logits, [self.bbox_subnet(x) for x in features]


def init_convs(part: nn.Module) -> None:
    """Initialize all convolutions of a head with small random weights (sec. 4.1) and zero bias."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


def _norm_by_level(
    norm: str | Callable[[int], nn.Module], num_levels: int
) -> Callable[[int], nn.Module | None]:
    """Return a function from channels to a normalization, with batch statistics per level."""
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


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """One-stage detector that classifies every anchor; the focal loss makes sampling unnecessary.

    `DenseDetector.forward` runs the backbone and the head, then `forward_training` or
    `forward_inference`.
    """

    # Config keys with a number of classes, and the metadata entry whose length it must equal.
    class_count_keys = {"MODEL.RETINANET.NUM_CLASSES": "thing_classes"}
    loss_normalizer = torch.tensor(100.0)  # initial value of its running mean

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
            head: maps L levels of features to L class logits (N, A * K, Hi, Wi) and L deltas
                (N, A * 4, Hi, Wi).
            head_in_features: names of the features, one per anchor level.
            anchor_matcher: labels anchors by their IoU with the ground truth.
            num_classes: K; background gets index K in labels, but no logit.
            focal_loss_alpha, focal_loss_gamma: see `focal_loss_of_labels`.
            smooth_l1_beta: the smooth L1 loss is quadratic for differences below this.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image,
                vis_period, input_format: see `DetectionSettings`.
        """
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            settings=DetectionSettings(
                test_score_thresh,
                test_topk_candidates,
                test_nms_thresh,
                max_detections_per_image,
                vis_period,
                input_format,
            ),
        )
        box_loss(box_reg_loss_type)  # raises now if the name is unknown
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.RETINANET and build the parts from the config."""
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
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **DetectionSettings.from_config(cfg, retinanet)._asdict(),
        }

    # --- training (sec. 4.1) ----------------------------------------------------------------------

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; returns "loss_cls" and "loss_box_reg"."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes)

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give every anchor of every image a class and a ground-truth box.

        Args:
            anchors: per level.
            gt_instances: per image, with `gt_boxes` and `gt_classes`.

        Returns:
            For each image (R,) int64 classes: K is background, -1 ignored; and (R, 4) boxes,
            zeros for an image without objects. R anchors of all levels.
        """
        all_anchors = Boxes.cat(anchors)
        labels, boxes = [], []
        for gt in gt_instances:
            matches, match_labels = match_boxes(self.anchor_matcher, gt.gt_boxes, all_anchors)
            labels.append(class_labels(gt.gt_classes, matches, match_labels, self.num_classes))
            boxes.append(matched_boxes(gt.gt_boxes, matches))
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the focal loss of all anchors except ignored ones, and the box loss of the
        foreground.

        Args:
            anchors: per level.
            pred_logits: per level, (N, Ri, K).
            gt_labels, gt_boxes: per image, see `label_anchors`.
            pred_anchor_deltas: per level, (N, Ri, 4).
        """
        labels = torch.stack(gt_labels)  # (N, R)
        positive = is_foreground(labels, self.num_classes)
        num_positive = positive.sum()
        log_scalar("num_pos_anchors", num_positive / len(labels))
        # Normalized by the number of foreground anchors, because the many easy negatives add hardly
        # anything to the focal loss (sec. 4.1). A running mean, since the number varies a lot
        # between batches.
        normalizer = self._ema_update(
            "loss_normalizer", num_positive.clamp(min=1), self.loss_normalizer
        )
        loss_cls = focal_loss_of_labels(
            pred_logits, labels, self.focal_loss_alpha, self.focal_loss_gamma
        )
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

    # --- inference (sec. 4.1) ---------------------------------------------------------------------

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        scores = [x.sigmoid() for x in logits]
        return [
            self.inference_single_image(
                anchors, [x[i] for x in scores], [x[i] for x in deltas], image_size
            )
            for i, image_size in enumerate(images.image_sizes)
        ]

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the detections of one image, best first: decoded, then NMS within each class.

        Args:
            anchors: per level.
            box_cls: per level, (Ri, K) scores, not logits.
            box_delta: per level, (Ri, 4).
            image_size: (height, width).
        """
        limits = (self.test_score_thresh, self.test_topk_candidates, image_size)
        candidates = self._decode_multi_level_predictions(anchors, box_cls, box_delta, *limits)
        return nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)
