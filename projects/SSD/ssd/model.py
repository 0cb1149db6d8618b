"""SSD: Single Shot MultiBox Detector (Liu et al. 2016, https://arxiv.org/abs/1512.02325)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import cat
from d2lite.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.detection_steps import class_labels, nms_detections
from d2lite.modeling.matcher import BACKGROUND, FOREGROUND
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.modeling.meta_arch.inputs import batch_images, required_field
from d2lite.structures import Boxes, ImageList, Instances, pairwise_iou
from d2lite.utils.events import log_scalar

from .default_boxes import DefaultBoxGenerator
from .head import SSD_HEAD_REGISTRY
from .losses import match_default_boxes, multibox_loss


@META_ARCH_REGISTRY.register()
class SSD(DenseDetector):
    """Detector with default boxes on several levels, softmax, and hard negative mining.

    Images of any size are resized to a square, and detections are mapped back. As in the paper and
    in torchvision, whose weights can be loaded, the background is the first class of the logits.
    """

    class_count_keys = {"MODEL.SSD.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: DefaultBoxGenerator,
        box2box_transform: Box2BoxTransform,
        image_size: int,
        num_classes: int,
        iou_threshold: float = 0.5,
        negative_ratio: float = 3.0,
        smooth_l1_beta: float = 1.0,
        test_score_thresh: float = 0.01,
        test_topk_candidates: int = 400,
        test_nms_thresh: float = 0.45,
        max_detections_per_image: int = 200,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "RGB",
    ):
        """Compose the model.

        Args:
            head: maps L levels of features to L levels of class logits (N, A * (K+1), Hi, Wi) and
                L levels of deltas (N, A * 4, Hi, Wi).
            head_in_features: names of the features, one for each level of default boxes.
            image_size: side of the square that images are resized to.
            num_classes: K, without the background.
            iou_threshold: minimum IoU of a foreground box with its object.
            negative_ratio: number of background boxes trained per foreground box.
            smooth_l1_beta: below this difference, the box loss is quadratic.
            test_topk_candidates: number of candidates per class before NMS.
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
        self.image_size = image_size
        self.num_classes = num_classes
        self.iou_threshold = iou_threshold
        self.negative_ratio = negative_ratio
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.SSD and build the parts from the config."""
        ssd = cfg.MODEL.SSD
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        anchor_generator = DefaultBoxGenerator(cfg, list(shapes.values()))
        head = SSD_HEAD_REGISTRY.get(ssd.HEAD)(
            [shape.channels for shape in shapes.values()],
            anchor_generator.num_anchors,
            ssd.NUM_CLASSES,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": list(shapes),
            "anchor_generator": anchor_generator,
            "box2box_transform": Box2BoxTransform(weights=ssd.BBOX_REG_WEIGHTS),
            "image_size": ssd.IMAGE_SIZE,
            "num_classes": ssd.NUM_CLASSES,
            "iou_threshold": ssd.IOU_THRESHOLD,
            "negative_ratio": ssd.NEGATIVE_RATIO,
            "smooth_l1_beta": ssd.SMOOTH_L1_BETA,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **DetectionSettings.from_config(cfg, ssd)._asdict(),
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """See `DenseDetector.forward`. Without "height" and "width", results have the size that
        the image had before it was resized to a square."""
        images = required_field(batched_inputs, "image")
        with_size = [
            {"height": image.shape[-2], "width": image.shape[-1], **x}
            for image, x in zip(images, batched_inputs, strict=True)
        ]
        return super().forward(with_size)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Resize the images to the square and normalize them."""
        square = (self.image_size, self.image_size)
        images = []
        for image in required_field(batched_inputs, "image"):
            if image.shape[-2:] != square:
                image = image.to(self.device, torch.float32)[None]
                image = F.interpolate(image, size=square, mode="bilinear", align_corners=False)[0]
            images.append(image)
        return batch_images(images, self.pixel_mean, self.pixel_std)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; returns "loss_cls" and "loss_box_reg"."""
        logits, deltas = self._by_box(predictions)
        anchors = Boxes.cat(self.anchor_generator(features))
        labeled = [self.label_boxes(anchors, x) for x in gt_instances]
        labels = torch.stack([labels for labels, _ in labeled])
        log_scalar("num_pos_anchors", (labels > 0).sum() / len(labels))
        return multibox_loss(
            logits,
            deltas,
            labels,
            cat([targets for _, targets in labeled]),
            negative_ratio=self.negative_ratio,
            beta=self.smooth_l1_beta,
        )

    @torch.no_grad()
    def label_boxes(self, anchors: Boxes, gt: Instances) -> tuple[Tensor, Tensor]:
        """Return the class of every default box of an image, and the deltas of the foreground.

        Args:
            anchors: R default boxes.
            gt: has `gt_boxes` and `gt_classes`, in the size that the image had before `forward`.
        Returns:
            (R,) int64, 0 for background and k + 1 for class k; and (P, 4) deltas of the foreground.
        """
        height, width = gt.image_size
        gt_boxes = gt.gt_boxes.clone()
        gt_boxes.scale(self.image_size / width, self.image_size / height)
        matches = match_default_boxes(pairwise_iou(gt_boxes, anchors), self.iou_threshold)
        found = matches >= 0
        match_labels = torch.where(found, FOREGROUND, BACKGROUND)
        labels = class_labels(gt.gt_classes + 1, matches.clamp(min=0), match_labels, background=0)
        deltas = self.box2box_transform.get_deltas(
            anchors.tensor[found], gt_boxes.tensor[matches[found]]
        )
        return labels, deltas

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`."""
        logits, deltas = self._by_box(predictions)
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        scores = logits.softmax(dim=2)[..., 1:]  # (N, R, K)
        return [
            self.inference_single_image(*one, image_size)
            for *one, image_size in zip(
                scores,
                (self.box2box_transform.apply_deltas(x, anchors) for x in deltas),
                images.image_sizes,
                strict=True,
            )
        ]

    def inference_single_image(
        self, scores: Tensor, boxes: Tensor, image_size: tuple[int, int]
    ) -> Instances:
        """Select the best of each class, apply NMS within each class, and keep the best of all.

        Args:
            scores: (R, K).
            boxes: (R, 4), not clipped.
        """
        clipped = Boxes(boxes)
        clipped.clip(image_size)
        topk = min(self.test_topk_candidates, len(scores))
        scores, rows = scores.topk(topk, dim=0)  # (T, K)
        classes = torch.arange(scores.shape[1], device=scores.device).expand_as(rows)
        keep = (scores > self.test_score_thresh).T  # class after class, best first
        scores, rows, classes = scores.T[keep], rows.T[keep], classes.T[keep]
        candidates = Instances(
            image_size, pred_boxes=clipped[rows], scores=scores, pred_classes=classes
        )
        return nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)

    def _by_box(self, predictions: Sequence[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Return (N, R, K+1) logits and (N, R, 4) deltas of all levels."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes + 1, 4])
        return cat(logits, dim=1), cat(deltas, dim=1)
