"""FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import configurable
from d2lite.layers import ShapeSpec, cat
from d2lite.modeling.anchor_generator import DefaultAnchorGenerator
from d2lite.modeling.backbone import Backbone
from d2lite.modeling.box_regression import (
    Box2BoxTransformLinear,
    BoxCoder,
    dense_box_regression_loss,
)
from d2lite.modeling.detection_steps import (
    class_labels,
    is_foreground,
    matched_boxes,
    nms_detections,
)
from d2lite.modeling.focal_loss import focal_loss_of_labels
from d2lite.modeling.matcher import BACKGROUND, FOREGROUND, Matcher
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.modeling.meta_arch.retinanet import RetinaNetHead, init_convs
from d2lite.structures import Boxes, ImageList, Instances, pairwise_point_box_distance
from d2lite.utils.events import log_scalar

# A level is responsible for objects whose farthest edge is between 4 and 8 strides away from the
# point (with strides 8, 16, ...: 64, 128, ... pixels, as in sec. 3.2).
_REACH_IN_STRIDES = (4, 8)

# A point is foreground if any object fits it (quality above 0, see `FCOS._match_anchors`).
_ANY_FIT = Matcher([1e-5], [BACKGROUND, FOREGROUND])


class FCOS(DenseDetector):
    """One point per cell predicts the class and the distances to the four edges of the box.

    A point is represented by an anchor, a square around it with a side of one stride, so the code
    for anchors works for points too.
    """

    loss_normalizer = torch.tensor(300.0)  # initial value of its running mean

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        box2box_transform: BoxCoder | None = None,
        num_classes: int,
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """Compose the model.

        Args:
            head: maps L levels of features to L class logits (N, K, Hi, Wi), L deltas
                (N, 4, Hi, Wi) and L centerness logits (N, 1, Hi, Wi).
            head_in_features: names of the features; by default all, by ascending stride.
            box2box_transform: by default, distances to the edges in strides.
            num_classes: K; background gets index K in labels, but no logit.
            center_sampling_radius: a point is foreground only if it is within this many strides
                of the object's center along both axes.
            focal_loss_alpha, focal_loss_gamma: see `focal_loss_of_labels`.
            test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image:
                see `DetectionSettings`.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
        """
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            settings=DetectionSettings(
                test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image
            ),
        )
        shapes = backbone.output_shape()
        strides = [shapes[name].stride for name in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides], aspect_ratios=[1.0], strides=strides
        )
        self.num_classes = num_classes
        self.box2box_transform = box2box_transform or Box2BoxTransformLinear()
        self.center_sampling_radius = float(center_sampling_radius)
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; the losses are those of `losses`."""
        logits, deltas, centerness = self._by_point(predictions)
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes, centerness)

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give every point of every image a class and a ground-truth box.

        Args:
            anchors: per level, see the class.
            gt_instances: per image, with `gt_boxes` and `gt_classes`.

        Returns:
            For each image (R,) int64 classes: K is background; and (R, 4) boxes, zeros for an
            image without objects. R points of all levels.
        """
        labels, boxes = [], []
        for gt in gt_instances:
            matches, match_labels = _ANY_FIT(self._match_anchors(gt.gt_boxes, anchors))
            labels.append(class_labels(gt.gt_classes, matches, match_labels, self.num_classes))
            boxes.append(matched_boxes(gt.gt_boxes, matches))
        return labels, boxes

    def _match_anchors(self, gt_boxes: Boxes, anchors: list[Boxes]) -> Tensor:
        """Return (M, R) match qualities: 0 for no match, otherwise higher for smaller objects.

        A point matches an object if it lies inside it, near its center, and the level of the point
        is responsible for objects of that size (sec. 3.2).
        """
        all_anchors = Boxes.cat(anchors)
        points = all_anchors.get_centers()  # (R, 2)
        strides = all_anchors.tensor[:, 2] - all_anchors.tensor[:, 0]  # (R,)
        lowest, highest = (strides * factor for factor in _REACH_IN_STRIDES)
        lowest[: len(anchors[0])] = 0  # the first level takes all that are smaller,
        highest[-len(anchors[-1]) :] = torch.inf  # and the last all that are larger

        to_center = (points - gt_boxes.get_centers()[:, None]).abs().amax(dim=2)  # (M, R)
        to_edges = pairwise_point_box_distance(points, gt_boxes).transpose(0, 1)  # (M, R, 4)
        reach = to_edges.amax(dim=2)
        fits = (
            (to_center < self.center_sampling_radius * strides)
            & (to_edges.amin(dim=2) > 0)
            & (reach > lowest)
            & (reach < highest)
        )
        # If several objects match, the smallest one is chosen (sec. 3.1). The constant exceeds any
        # area in pixels.
        return torch.where(fits, 1e8 - gt_boxes.area()[:, None], 0.0)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the focal loss of all points, and GIoU and centerness losses of the foreground
        (eq. 2).

        All are divided by a running mean of the number of foreground points.

        Args:
            anchors: per level.
            pred_logits: per level, (N, Ri, K).
            gt_labels, gt_boxes: per image, see `label_anchors`.
            pred_anchor_deltas: per level, (N, Ri, 4).
            pred_centerness: per level, (N, Ri, 1) logits.

        Returns:
            "loss_fcos_cls", "loss_fcos_loc" and "loss_fcos_ctr".
        """
        labels = torch.stack(gt_labels)  # (N, R)
        positive = is_foreground(labels, self.num_classes)
        num_positive = positive.sum()
        log_scalar("num_pos_anchors", num_positive / len(labels))
        normalizer = self._ema_update(
            "loss_normalizer", num_positive.clamp(min=1), self.loss_normalizer
        )
        loss_cls = focal_loss_of_labels(
            pred_logits, labels, self.focal_loss_alpha, self.focal_loss_gamma
        )
        loss_loc = dense_box_regression_loss(
            anchors, self.box2box_transform, pred_anchor_deltas, gt_boxes, positive, "giou"
        )
        loss_ctr = F.binary_cross_entropy_with_logits(
            cat(pred_centerness, dim=1).squeeze(2)[positive],
            self.compute_ctrness_targets(anchors, gt_boxes)[positive],
            reduction="sum",
        )
        losses = {"loss_fcos_cls": loss_cls, "loss_fcos_loc": loss_loc, "loss_fcos_ctr": loss_ctr}
        return {name: loss / normalizer for name, loss in losses.items()}

    def compute_ctrness_targets(self, anchors: list[Boxes], gt_boxes: list[Tensor]) -> Tensor:
        """Return the centerness of each point in its box (eq. 3): 1 at the center, 0 on an edge.

        Args:
            anchors: per level.
            gt_boxes: per image, (R, 4); only rows whose point is inside the box are meaningful.

        Returns:
            (N, R) values.
        """
        points = Boxes.cat(anchors).get_centers()  # (R, 2)
        boxes = torch.stack(gt_boxes)  # (N, R, 4)
        before, after = points - boxes[..., :2], boxes[..., 2:] - points  # (N, R, 2): x, y
        near, far = torch.minimum(before, after), torch.maximum(before, after)
        return (near / far).prod(dim=2).sqrt()

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`.

        The score is the square root of the product of class score and centerness (sec. 3.3).
        """
        logits, deltas, centerness = self._by_point(predictions)
        anchors = self.anchor_generator(features)
        levels = zip(logits, centerness, strict=True)
        scores = [(x.sigmoid() * y.sigmoid()).sqrt() for x, y in levels]
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
        """See `RetinaNet.inference_single_image`."""
        limits = (self.test_score_thresh, self.test_topk_candidates, image_size)
        candidates = self._decode_multi_level_predictions(anchors, box_cls, box_delta, *limits)
        return nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)

    def _by_point(self, predictions: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """Return L levels of (N, Ri, K) logits, (N, Ri, 4) deltas and (N, Ri, 1) centerness."""
        return self._transpose_dense_predictions(predictions, [self.num_classes, 4, 1])


class FCOSHead(RetinaNetHead):
    """RetinaNet's head with one point per cell, plus centerness in the box branch.

    Distances are in strides, so the levels can share the head without a learned scale per level.
    """

    @configurable
    def __init__(self, *, input_shape: list[ShapeSpec], conv_dims: Sequence[int], **kwargs: Any):
        """kwargs: `num_classes`, and optionally `norm` and `prior_prob`; see `RetinaNetHead`."""
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, num_anchors=1, **kwargs)
        self.ctrness = nn.Conv2d(conv_dims[-1], 1, kernel_size=3, padding=1)
        init_convs(self.ctrness)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """L levels of (N, C, Hi, Wi) -> L each of (N, K, Hi, Wi), (N, 4, ...) and (N, 1, ...)."""
        logits, box_features = self._towers(features)
        bbox_reg = [self.bbox_pred(x) for x in box_features]
        return logits, bbox_reg, [self.ctrness(x) for x in box_features]
