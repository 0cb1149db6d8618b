"""What RetinaNet and FCOS share: the focal loss lets every anchor train, with no sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2lite.layers import batched_nms
from d2lite.modeling.box_regression import BoxCoder
from d2lite.modeling.focal_loss import focal_loss_of_labels
from d2lite.modeling.meta_arch.dense_detector import DenseDetector
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import log_scalar


class ClassLoss(NamedTuple):
    """The loss of the classes, and what the other losses need of the labels."""

    loss: Tensor  # scalar, the sum over all anchors that are not ignored
    positive: Tensor  # (N, R) bool: which anchors are foreground
    normalizer: Tensor  # scalar: what each loss is divided by


class FocalDetector(DenseDetector):
    """Scores of K classes and one box for every anchor of every level.

    A subclass sets the attributes below, and defines `_label_one_image`, `_scores` and `losses`.
    """

    # What the head predicts of each anchor beside K logits and the 4 deltas of its box.
    other_dims: tuple[int, ...] = ()

    anchor_generator: nn.Module
    box2box_transform: BoxCoder
    num_classes: int
    focal_loss_alpha: float
    focal_loss_gamma: float
    test_score_thresh: float
    test_topk_candidates: int
    test_nms_thresh: float
    max_detections_per_image: int

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; the losses are those of `losses`."""
        logits, deltas, *others = self._by_anchor(predictions)
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes, *others)

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give every anchor of every image a class and a ground-truth box.

        Args:
            anchors: of each level.
            gt_instances: of each image, with `gt_boxes` and `gt_classes`.

        Returns:
            For each image (R,) int64 classes: K is background, -1 ignored; and (R, 4) boxes,
            zeros for an image without objects. R anchors of all levels.
        """
        labelled = [self._label_one_image(anchors, x) for x in gt_instances]
        return [labels for labels, _ in labelled], [boxes for _, boxes in labelled]

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`."""
        logits, deltas, *others = self._by_anchor(predictions)
        anchors = self.anchor_generator(features)
        scores = self._scores(logits, *others)
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
        """Detections of one image, best first: decoded, then NMS within each class.

        Args:
            anchors: of each level.
            box_cls: of each level (Ri, K) scores, not logits.
            box_delta: of each level (Ri, 4).
            image_size: (height, width).
        """
        candidates = self._decode_multi_level_predictions(
            anchors,
            box_cls,
            box_delta,
            self.test_score_thresh,
            self.test_topk_candidates,
            image_size,
        )
        keep = batched_nms(
            candidates.pred_boxes.tensor,
            candidates.scores,
            candidates.pred_classes,
            self.test_nms_thresh,
        )
        return candidates[keep[: self.max_detections_per_image]]

    def _by_anchor(self, predictions: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """Of each kind of prediction, L levels of (N, Ri, dims of that kind)."""
        return self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, *self.other_dims]
        )

    def _class_loss(self, pred_logits: list[Tensor], gt_labels: list[Tensor]) -> ClassLoss:
        """The focal loss of all anchors but ignored ones.

        Losses are divided by a running average of the number of foreground anchors.

        Args:
            pred_logits: of each level (N, Ri, K).
            gt_labels: of each image, see `label_anchors`.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        positive = (labels >= 0) & (labels != self.num_classes)
        num_positive = positive.sum()
        log_scalar("num_pos_anchors", num_positive / len(gt_labels))
        loss = focal_loss_of_labels(
            pred_logits, labels, self.focal_loss_alpha, self.focal_loss_gamma
        )
        return ClassLoss(loss, positive, self._update_loss_normalizer(num_positive))

    def _label_one_image(self, anchors: list[Boxes], gt: Instances) -> tuple[Tensor, Tensor]:
        """`label_anchors` for one image."""
        raise NotImplementedError(f"{type(self).__name__} must define _label_one_image")

    def _scores(self, pred_logits: list[Tensor], *others: list[Tensor]) -> list[Tensor]:
        """Of each level (N, Ri, K) scores in [0, 1], from the logits and other predictions."""
        raise NotImplementedError(f"{type(self).__name__} must define _scores")
