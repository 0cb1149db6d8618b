"""RetinaFace (Deng et al. 2020, https://arxiv.org/abs/1905.00641)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import cat
from d2lite.modeling import META_ARCH_REGISTRY, Backbone, build_anchor_generator, build_backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.detection_steps import class_labels, nms_detections, select_candidates
from d2lite.modeling.matcher import FOREGROUND, Matcher
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.structures import Boxes, ImageList, Instances, pairwise_iou
from d2lite.utils.events import log_scalar

from .head import RetinaFaceHead
from .losses import mined_class_loss
from .points import decode_points, encode_points
from .weights import accept_released_names


class AnchorTargets(NamedTuple):
    """Targets of the anchors of N images."""

    labels: Tensor
    """(N, R) int64: -1 for ignored, 0 for background, 1 + k for class k"""
    boxes: Tensor
    """(P, 4) boxes of the foreground anchors, in the order of `labels > 0`"""
    points: Tensor
    """(P, L, 3) x, y and visibility of their landmarks; 0 means not labeled"""


@META_ARCH_REGISTRY.register()
class RetinaFace(DenseDetector):
    """Detector of faces: a class, a box and landmarks for each anchor."""

    class_count_keys = {"MODEL.RETINAFACE.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: RetinaFaceHead,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        num_landmarks: int,
        landmark_reg_weight: float = 10.0,
        negative_ratio: float = 7.0,
        box_loss_weight: float = 2.0,
        landmark_loss_weight: float = 1.0,
        test_score_thresh: float = 0.02,
        test_topk_candidates: int = 5000,
        test_nms_thresh: float = 0.4,
        max_detections_per_image: int = 750,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ):
        """Compose the model.

        Args:
            head: see `RetinaFaceHead`.
            head_in_features: names of the features, one for each level of anchors.
            anchor_matcher: labels anchors by their IoU with the ground truth.
            num_classes: K, without the background.
            num_landmarks: L; 0 for boxes only.
            landmark_reg_weight: see `encode_points`.
            negative_ratio: see `mined_class_loss`.
            box_loss_weight, landmark_loss_weight: relative to the class loss.
            test_topk_candidates: number of candidates per image that are decoded.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            test_score_thresh, test_nms_thresh, max_detections_per_image, vis_period,
                input_format: see `DetectionSettings`.
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
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.num_classes = num_classes
        self.num_landmarks = num_landmarks
        self.landmark_reg_weight = landmark_reg_weight
        self.negative_ratio = negative_ratio
        self.box_loss_weight = box_loss_weight
        self.landmark_loss_weight = landmark_loss_weight
        accept_released_names(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.RETINAFACE and build the parts from the config."""
        face = cfg.MODEL.RETINAFACE
        backbone = build_backbone(cfg)
        shapes = select_features(
            backbone.output_shape(), face.IN_FEATURES, "MODEL.RETINAFACE.IN_FEATURES"
        )
        anchor_generator = build_anchor_generator(cfg, shapes)
        num_landmarks = face.NUM_LANDMARKS if cfg.MODEL.KEYPOINT_ON else 0
        head = RetinaFaceHead(
            in_channels=[shape.channels for shape in shapes],
            num_anchors=anchor_generator.num_anchors,
            num_classes=face.NUM_CLASSES,
            num_landmarks=num_landmarks,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": face.IN_FEATURES,
            "anchor_generator": anchor_generator,
            "box2box_transform": Box2BoxTransform(weights=face.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(
                face.IOU_THRESHOLDS, face.IOU_LABELS, allow_low_quality_matches=True
            ),
            "num_classes": face.NUM_CLASSES,
            "num_landmarks": num_landmarks,
            "landmark_reg_weight": face.LANDMARK_REG_WEIGHT,
            "negative_ratio": face.NEGATIVE_RATIO,
            "box_loss_weight": face.BOX_LOSS_WEIGHT,
            "landmark_loss_weight": face.LANDMARK_LOSS_WEIGHT,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **DetectionSettings.from_config(cfg, face)._asdict(),
        }

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; returns "loss_cls", "loss_box_reg" and, with
        landmarks, "loss_landmark"."""
        anchors = Boxes.cat(self.anchor_generator(features))
        targets = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors.tensor, self.flatten_predictions(predictions), targets)

    def flatten_predictions(self, predictions: Sequence[list[Tensor]]) -> list[Tensor]:
        """Return (N, R, dims) predictions of each kind, in the order of the anchors."""
        dims = [self.num_classes + 1, 4, self.num_landmarks * 2][: len(predictions)]
        kinds = self._transpose_dense_predictions(predictions, dims)
        return [cat(levels, dim=1).float() for levels in kinds]

    @torch.no_grad()
    def label_anchors(self, anchors: Boxes, gt_instances: list[Instances]) -> AnchorTargets:
        """Match R anchors to the ground truth of N images.

        Raises:
            ValueError: the class or the number of landmarks does not fit the model.
        """
        labels, boxes, points = [], [], []
        for gt in gt_instances:
            if self.num_landmarks and gt.has("gt_keypoints"):
                gt_points = gt.gt_keypoints.tensor  # (M, L, 3)
            else:  # the data have no landmarks, so none are labeled
                gt_points = gt.gt_boxes.tensor.new_zeros(len(gt), self.num_landmarks, 3)
            if gt_points.shape[1] != self.num_landmarks:
                raise ValueError(
                    f"the data have {gt_points.shape[1]} keypoints, but "
                    f"MODEL.RETINAFACE.NUM_LANDMARKS is {self.num_landmarks}; set it to "
                    f"{gt_points.shape[1]}"
                )
            matches, match_labels = self.anchor_matcher(pairwise_iou(gt.gt_boxes, anchors))
            labels.append(class_labels(gt.gt_classes + 1, matches, match_labels, background=0))
            chosen = matches[match_labels == FOREGROUND]
            boxes.append(gt.gt_boxes.tensor[chosen])
            points.append(gt_points[chosen])
        return AnchorTargets(torch.stack(labels), torch.cat(boxes), torch.cat(points))

    def losses(
        self, anchors: Tensor, predictions: Sequence[Tensor], targets: AnchorTargets
    ) -> dict[str, Tensor]:
        """Return the multi-task loss (eq. 1), each part divided by its number of anchors.

        Args:
            anchors: (R, 4).
            predictions: (N, R, 1 + K) logits, (N, R, 4) deltas and, with landmarks, (N, R, L * 2)
                offsets.
            targets: result of `label_anchors`.
        """
        positive = targets.labels > 0
        image, anchor = positive.nonzero(as_tuple=True)  # (P,) each
        num_positive = len(image)
        log_scalar("num_pos_anchors", num_positive / len(positive))
        anchors = anchors[anchor]
        deltas = self.box2box_transform.get_deltas(anchors, targets.boxes)
        loss_cls = mined_class_loss(predictions[0], targets.labels, self.negative_ratio)
        loss_box = F.smooth_l1_loss(predictions[1][image, anchor], deltas, reduction="sum")
        losses = {
            "loss_cls": loss_cls / max(num_positive, 1),
            "loss_box_reg": self.box_loss_weight * loss_box / max(num_positive, 1),
        }
        if self.num_landmarks:
            offsets = predictions[2][image, anchor].unflatten(1, (-1, 2))  # (P, L, 2)
            labeled = targets.points[..., 2] > 0  # (P, L)
            wanted = encode_points(targets.points[..., :2], anchors, self.landmark_reg_weight)
            loss = F.smooth_l1_loss(offsets[labeled], wanted[labeled], reduction="sum")
            # Over the number of anchors that have any labeled point.
            loss = loss / labeled.any(dim=1).sum().clamp(min=1)
            losses["loss_landmark"] = self.landmark_loss_weight * loss
        return losses

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`; `pred_keypoints` (M, L, 3) are x, y and the score
        of the face."""
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        flat = self.flatten_predictions(predictions)
        return [
            self.inference_single_image(anchors, [kind[i] for kind in flat], image_size)
            for i, image_size in enumerate(images.image_sizes)
        ]

    def inference_single_image(
        self, anchors: Tensor, predictions: Sequence[Tensor], image_size: tuple[int, int]
    ) -> Instances:
        """Return the detections of one image, best first.

        Args:
            anchors: (R, 4).
            predictions: (R, 1 + K) logits, (R, 4) deltas and, with landmarks, (R, L * 2) offsets.
            image_size: (height, width).
        """
        scores = predictions[0].softmax(dim=1)[:, 1:]  # (R, K)
        best = select_candidates(scores, self.test_score_thresh, self.test_topk_candidates)
        boxes = self.box2box_transform.apply_deltas(
            predictions[1][best.anchors], anchors[best.anchors]
        )
        candidates = Instances(
            image_size,
            pred_boxes=Boxes(boxes),
            scores=best.scores,
            pred_classes=best.classes,
            anchor=best.anchors,
        )
        found = nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)
        anchor = found.anchor
        found.remove("anchor")
        if self.num_landmarks:
            offsets = predictions[2][anchor].unflatten(1, (-1, 2))
            points = decode_points(offsets, anchors[anchor], self.landmark_reg_weight)
            score = found.scores[:, None, None].expand(-1, self.num_landmarks, 1)
            found.pred_keypoints = torch.cat([points, score], dim=2)
        return found
