"""You Only Look One-level Feature (Chen et al. 2021, https://arxiv.org/abs/2103.09460)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import giou_loss
from d2lite.modeling import META_ARCH_REGISTRY, Backbone, build_anchor_generator, build_backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.detection_steps import class_labels, is_foreground, nms_detections
from d2lite.modeling.focal_loss import focal_loss_of_labels
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils import comm
from d2lite.utils.events import log_scalar

from .box_coder import ClampedBox2BoxTransform
from .head import Decoder, DilatedEncoder
from .matching import UniformMatch, uniform_match


@META_ARCH_REGISTRY.register()
class YOLOF(DenseDetector):
    """Detector with anchors of all sizes on one level of features, matched uniformly.

    Its parameters have the names of the authors' program, so its weights can be loaded.
    """

    class_count_keys = {"MODEL.YOLOF.DECODER.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        encoder: nn.Module,
        decoder: nn.Module,
        in_feature: str,
        anchor_generator: nn.Module,
        box2box_transform: ClampedBox2BoxTransform,
        num_classes: int,
        match_topk: int = 4,
        pos_ignore_threshold: float = 0.15,
        neg_ignore_threshold: float = 0.7,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ):
        """Compose the model.

        Args:
            encoder: maps the (N, C, H, W) feature to the input of the decoder.
            decoder: maps that to class logits (N, A * K, H, W) and deltas (N, A * 4, H, W).
            in_feature: name of the backbone's feature.
            num_classes: K; background has index K in labels, but no logit.
            match_topk, pos_ignore_threshold, neg_ignore_threshold: see `uniform_match`.
            focal_loss_alpha, focal_loss_gamma: see `focal_loss_of_labels`.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image,
                vis_period, input_format: see `DetectionSettings`.
        """
        super().__init__(
            backbone,
            self.predict,
            [in_feature],
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
        self.encoder = encoder
        self.decoder = decoder
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.num_classes = num_classes
        self.match_topk = match_topk
        self.pos_ignore_threshold = pos_ignore_threshold
        self.neg_ignore_threshold = neg_ignore_threshold
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.YOLOF and build the parts from the config.

        Raises:
            ValueError: a setting is not possible; the message names the key.
        """
        yolof = cfg.MODEL.YOLOF
        _check_settings(yolof)
        backbone = build_backbone(cfg)
        shapes = select_features(
            backbone.output_shape(), [yolof.IN_FEATURE], "MODEL.YOLOF.IN_FEATURE"
        )
        anchor_generator = build_anchor_generator(cfg, shapes)
        return {
            "backbone": backbone,
            "encoder": DilatedEncoder(cfg, shapes[0]),
            "decoder": Decoder(cfg, anchor_generator.num_anchors[0]),
            "in_feature": yolof.IN_FEATURE,
            "anchor_generator": anchor_generator,
            "box2box_transform": ClampedBox2BoxTransform(yolof.BBOX_REG_WEIGHTS, yolof.CTR_CLAMP),
            "num_classes": yolof.DECODER.NUM_CLASSES,
            "match_topk": yolof.MATCHER.TOPK,
            "pos_ignore_threshold": yolof.MATCHER.POS_IGNORE_THRESHOLD,
            "neg_ignore_threshold": yolof.MATCHER.NEG_IGNORE_THRESHOLD,
            "focal_loss_alpha": yolof.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": yolof.FOCAL_LOSS_GAMMA,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **DetectionSettings.from_config(cfg, yolof)._asdict(),
        }

    def predict(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict [(N, A * K, H, W)] logits and [(N, A * 4, H, W)] deltas from the single feature.

        This replaces the head of `DenseDetector`, so that encoder and decoder stay direct parts of
        the model, as in the authors' weights.
        """
        (feature,) = features
        logits, deltas = self.decoder(self.encoder(feature))
        return [logits], [deltas]

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; returns "loss_cls" and "loss_box_reg"."""
        (logits,), (deltas,) = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        pred_boxes = [self.box2box_transform.apply_deltas(x, anchors) for x in deltas]
        matches = [
            self._match(anchors, boxes, gt)
            for boxes, gt in zip(pred_boxes, gt_instances, strict=True)
        ]
        labels = torch.stack(
            [
                class_labels(gt.gt_classes, match.gt_index, match.label, self.num_classes)
                for match, gt in zip(matches, gt_instances, strict=True)
            ]
        )
        return self.losses(logits, labels, pred_boxes, matches, gt_instances)

    def losses(
        self,
        logits: Tensor,
        labels: Tensor,
        pred_boxes: list[Tensor],
        matches: list[UniformMatch],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Return the focal loss of all anchors except ignored ones, and the GIoU loss of matches.

        Both are divided by the number of foreground anchors, averaged over processes.

        Args:
            logits: (N, R, K).
            labels: (N, R) int64 classes; K is background, -1 ignored.
            pred_boxes: (R, 4) per image.
            matches: one per image.
            gt_instances: per image, with `gt_boxes`.
        """
        num_foreground = is_foreground(labels, self.num_classes).sum()
        log_scalar("num_pos_anchors", num_foreground / len(labels))
        normalizer = _mean_over_processes(num_foreground.float()).clamp(min=1)
        loss_cls = focal_loss_of_labels(
            [logits], labels, self.focal_loss_alpha, self.focal_loss_gamma
        )
        predicted = [boxes[x.pair_anchor] for boxes, x in zip(pred_boxes, matches, strict=True)]
        wanted = [
            gt.gt_boxes.tensor[x.pair_gt] for gt, x in zip(gt_instances, matches, strict=True)
        ]
        loss_box_reg = giou_loss(torch.cat(predicted), torch.cat(wanted), reduction="sum")
        return {"loss_cls": loss_cls / normalizer, "loss_box_reg": loss_box_reg / normalizer}

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """See `DenseDetector.forward_inference`."""
        (logits,), (deltas,) = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        return [
            self.inference_single_image(anchors[0], scores, x, image_size)
            for scores, x, image_size in zip(
                logits.sigmoid(), deltas, images.image_sizes, strict=True
            )
        ]

    def inference_single_image(
        self, anchors: Boxes, scores: Tensor, deltas: Tensor, image_size: tuple[int, int]
    ) -> Instances:
        """Decode (R, K) scores and (R, 4) deltas of one image, and apply NMS to each class."""
        candidates = self._decode_per_level_predictions(
            anchors, scores, deltas, self.test_score_thresh, self.test_topk_candidates, image_size
        )
        return nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)

    @torch.no_grad()
    def _match(self, anchors: Tensor, pred_boxes: Tensor, gt: Instances) -> UniformMatch:
        return uniform_match(
            anchors,
            pred_boxes,
            gt.gt_boxes.tensor,
            topk=self.match_topk,
            pos_ignore_threshold=self.pos_ignore_threshold,
            neg_ignore_threshold=self.neg_ignore_threshold,
        )


def _mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a scalar over all processes, which all of them get."""
    if comm.get_world_size() == 1:
        return value
    torch.distributed.all_reduce(value)
    return value / comm.get_world_size()


def _check_settings(yolof: CfgNode) -> None:
    if yolof.MATCHER.TOPK < 1:
        raise ValueError(f"MODEL.YOLOF.MATCHER.TOPK is {yolof.MATCHER.TOPK}; it must be at least 1")
    if yolof.CTR_CLAMP <= 0:
        raise ValueError(f"MODEL.YOLOF.CTR_CLAMP is {yolof.CTR_CLAMP}; it must be above 0")
