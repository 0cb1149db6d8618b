"""Base class of one-stage detectors, which predict at every cell of the feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.modeling.backbone import Backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.detection_steps import moving_average, permute_to_N_HWA_K, select_candidates
from d2lite.modeling.meta_arch.inputs import (
    batch_for,
    ground_truth,
    postprocess,
    required_field,
    set_pixel_statistics,
)
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.modeling.training_pictures import MAX_DRAWN_BOXES, draw_beside_truth
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import is_time_to_draw


class DetectionSettings(NamedTuple):
    """Settings shared by all dense detectors. Each becomes an attribute of the model."""

    test_score_thresh: float
    """detections with lower scores are dropped"""
    test_topk_candidates: int
    """candidates to decode: per level, or per image if the model says so"""
    test_nms_thresh: float
    """IoU above which the lower-scoring of two boxes of a class is dropped"""
    max_detections_per_image: int
    """number of detections to keep per image"""
    vis_period: int = 0
    """iterations between images with detections in the event storage; 0 for none"""
    input_format: str = "BGR"
    """channel order of the images"""

    @classmethod
    def from_config(cls, cfg: CfgNode, detector: CfgNode) -> "DetectionSettings":
        """detector: config node of the architecture, such as MODEL.RETINANET."""
        return cls(
            test_score_thresh=detector.SCORE_THRESH_TEST,
            test_topk_candidates=detector.TOPK_CANDIDATES_TEST,
            test_nms_thresh=detector.NMS_THRESH_TEST,
            max_detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            vis_period=cfg.VIS_PERIOD,
            input_format=cfg.INPUT.FORMAT,
        )


class DenseDetector(nn.Module):
    """Backbone and a head that predicts at every cell of several feature levels.

    A subclass defines `forward_training` and `forward_inference`.
    """

    # Config keys with a number of classes, and the metadata entry whose length it must equal.
    class_count_keys: Mapping[str, str] = {}
    vis_period: int = 0
    input_format: str = "BGR"
    # Losses are divided by this running mean of the number of positive anchors. A subclass whose
    # losses are normalized sets the initial value.
    loss_normalizer: Tensor = torch.tensor(1.0)

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: nn.Module | None = None,
        head_in_features: Sequence[str] | None = None,
        *,
        pixel_mean: Sequence[float] = (),
        pixel_std: Sequence[float] = (),
        settings: DetectionSettings | None = None,
    ):
        """Compose the model.

        Args:
            backbone: None if the model sets its parts itself; other arguments are then ignored.
            head: takes L levels of (N, C, Hi, Wi) features and returns, for each kind of
                prediction, a list of L tensors.
            head_in_features: names of the features; by default all, by ascending stride.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            settings: stored as attributes; None if the model sets them itself.

        Raises:
            ValueError: the backbone lacks a feature, or pixel_mean and pixel_std differ in length.
        """
        super().__init__()
        if backbone is None:
            return
        self.backbone = backbone
        set_pixel_statistics(self, pixel_mean, pixel_std)
        shapes = backbone.output_shape()
        if head_in_features is None:
            head_in_features = sorted(shapes, key=lambda name: shapes[name].stride)
        select_features(shapes, head_in_features, "head_in_features")
        self.head = head
        self.head_in_features = list(head_in_features)
        if settings is not None:
            self.test_score_thresh = settings.test_score_thresh
            self.test_topk_candidates = settings.test_topk_candidates
            self.test_nms_thresh = settings.test_nms_thresh
            self.max_detections_per_image = settings.max_detections_per_image
            self.vis_period = settings.vis_period
            self.input_format = settings.input_format

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, detections otherwise; see `GeneralizedRCNN.forward`."""
        images = self.preprocess_image(batched_inputs)
        if self.training:
            required_field(batched_inputs, "instances")
            gt_instances = ground_truth(
                batched_inputs, self.device, self._num_label_classes(), self.class_count_keys
            )
        by_name = self.backbone(images.tensor)
        features = [by_name[name] for name in self.head_in_features]
        predictions = self.head(features)
        if self.training:
            losses = self.forward_training(images, features, predictions, gt_instances)
            if is_time_to_draw(self.vis_period):
                with torch.no_grad():
                    results = self.forward_inference(images, features, predictions)
                self.visualize_training(batched_inputs, results)
            return losses
        results = self.forward_inference(images, features, predictions)
        return postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalize the images and pad them into a batch."""
        images = [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")]
        return batch_for(self, images)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            features: per level, (N, C, Hi, Wi).
            predictions: output of the head: for each kind a list of levels.
            gt_instances: per image, with `gt_boxes` and `gt_classes`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward_training")

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """Return the detections of each image, in the size of the network's input."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_inference")

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], results: list[Instances]
    ) -> None:
        """Put a drawing of the first image into the event storage: ground truth above, detections
        below.

        Args:
            batched_inputs: see `forward`.
            results: detections per image, best first; the best 20 are drawn.
        """
        height, width = batched_inputs[0]["image"].shape[1:]
        boxes = detector_postprocess(results[0], height, width).pred_boxes
        name = f"Top: GT bounding boxes; Bottom: {MAX_DRAWN_BOXES} Highest Scoring Results"
        draw_beside_truth(batched_inputs[0], boxes, self.input_format, name, axis=0)

    def training_state(self) -> dict[str, Tensor]:
        """Return the state besides the weights that resuming needs."""
        return {"loss_normalizer": self.loss_normalizer}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Load a state from `training_state`."""
        self.loss_normalizer = state["loss_normalizer"]

    # --- methods that subclasses written for detectron2 call or override; used by ours as well ----

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.pixel_mean.device, non_blocking=True)

    def _num_label_classes(self) -> int | None:
        """How many classes objects may have in training; None where their classes don't matter."""
        return getattr(self, "num_classes", None)

    def _transpose_dense_predictions(
        self, predictions: Sequence[list[Tensor]], dims_per_anchor: Sequence[int]
    ) -> list[list[Tensor]]:
        """Return, for each kind of prediction, L levels of (N, Hi * Wi * A, dims of that kind)."""
        assert len(predictions) == len(dims_per_anchor)
        return [
            [permute_to_N_HWA_K(x, dims) for x in levels]
            for levels, dims in zip(predictions, dims_per_anchor, strict=True)
        ]

    def _ema_update(
        self, name: str, value: Tensor | float, initial_value: Tensor | float, momentum: float = 0.9
    ) -> Tensor:
        """Update the attribute `name` as a moving average, see `moving_average`.

        Args:
            initial_value: used if the attribute does not exist yet.
            momentum: weight of the old value.
        """
        # Not a buffer, since detectron2 has none: `training_state` stores it in checkpoints.
        setattr(self, name, moving_average(getattr(self, name, initial_value), value, momentum))
        return getattr(self, name)

    def _decode_per_level_predictions(
        self,
        anchors: Boxes,
        pred_scores: Tensor,
        pred_deltas: Tensor,
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the best (anchor, class) pairs of one level of one image, best first.

        Args:
            anchors: R anchors of this level.
            pred_scores: (R, K) scores.
            pred_deltas: (R, 4).
            score_thresh, topk_candidates: see `select_candidates`.
        """
        best = select_candidates(pred_scores, score_thresh, topk_candidates)
        boxes = self.box2box_transform.apply_deltas(
            pred_deltas[best.anchors], anchors.tensor[best.anchors]
        )
        return Instances(
            image_size, pred_boxes=Boxes(boxes), scores=best.scores, pred_classes=best.classes
        )

    def _decode_multi_level_predictions(
        self,
        anchors: list[Boxes],
        pred_scores: list[Tensor],
        pred_deltas: list[Tensor],
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the best pairs of every level of one image, concatenated."""
        limits = (score_thresh, topk_candidates, image_size)
        return Instances.cat(
            [
                self._decode_per_level_predictions(*level, *limits)
                for level in zip(anchors, pred_scores, pred_deltas, strict=True)
            ]
        )
