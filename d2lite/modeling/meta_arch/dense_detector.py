"""What detectors share that predict at every cell of the features and need no second stage."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.modeling.backbone import Backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.meta_arch.image_model import MAX_DRAWN_BOXES, ImageModel
from d2lite.modeling.meta_arch.inputs import required_field
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.structures import Boxes, ImageList, Instances


def permute_to_N_HWA_K(tensor: Tensor, K: int) -> Tensor:
    """(N, A * K, H, W) predictions -> (N, H * W * A, K); free for the layout channels last."""
    return tensor.permute(0, 2, 3, 1).reshape(tensor.shape[0], -1, K)


class DenseDetector(ImageModel):
    """A backbone and a head that predicts at every cell of several levels of features.

    A subclass defines `forward_training` and `forward_inference`.
    """

    input_format: str = "BGR"
    # What losses are divided by: a running mean of the number of positive anchors. A subclass
    # whose losses are normalized sets where it starts.
    loss_normalizer: Tensor = torch.tensor(1.0)

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: nn.Module | None = None,
        head_in_features: Sequence[str] | None = None,
        *,
        pixel_mean: Sequence[float] = (),
        pixel_std: Sequence[float] = (),
    ):
        """Compose the model.

        Args:
            backbone: None for a model that sets its parts itself; the rest is not looked at then.
            head: takes L levels of (N, C, Hi, Wi) features, and gives a list of L predictions
                of each kind.
            head_in_features: names of the features; by default all, by ascending stride.
            pixel_mean, pixel_std: one value for each channel, as images come.

        Raises:
            ValueError: the backbone lacks a feature, or the pixel statistics differ in length.
        """
        super().__init__()
        if backbone is None:
            return
        self.backbone = backbone
        self.set_pixel_statistics(pixel_mean, pixel_std)
        shapes = backbone.output_shape()
        if head_in_features is None:
            head_in_features = sorted(shapes, key=lambda name: shapes[name].stride)
        select_features(shapes, head_in_features, "head_in_features")
        self.head = head
        self.head_in_features = list(head_in_features)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, detections otherwise; see `GeneralizedRCNN.forward`."""
        images = self.preprocess_image(batched_inputs)
        if self.training:
            required_field(batched_inputs, "instances")
            gt_instances = self._ground_truth(batched_inputs)
        by_name = self.backbone(images.tensor)
        features = [by_name[name] for name in self.head_in_features]
        predictions = self.head(features)
        if self.training:
            losses = self.forward_training(images, features, predictions, gt_instances)
            if self._is_time_to_draw():
                with torch.no_grad():
                    results = self.forward_inference(images, features, predictions)
                self.visualize_training(batched_inputs, results)
            return losses
        results = self.forward_inference(images, features, predictions)
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Losses by name, from what the head gave for each level of features."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_training")

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """Detections of each image, in the size that the network sees."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_inference")

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], results: list[Instances]
    ) -> None:
        """Put the first image into the event storage: on top the ground truth, below detections.

        Args:
            batched_inputs: see `forward`.
            results: detections of each image, best first; the best 20 are drawn.
        """
        height, width = batched_inputs[0]["image"].shape[1:]
        boxes = detector_postprocess(results[0], height, width).pred_boxes
        name = f"Top: GT bounding boxes; Bottom: {MAX_DRAWN_BOXES} Highest Scoring Results"
        self._draw_with_truth(batched_inputs[0], boxes, name, axis=0)

    def _transpose_dense_predictions(
        self, predictions: Sequence[list[Tensor]], dims_per_anchor: Sequence[int]
    ) -> list[list[Tensor]]:
        """Of each kind of prediction, L levels of (N, Hi * Wi * A, dims of that kind)."""
        assert len(predictions) == len(dims_per_anchor)
        return [
            [permute_to_N_HWA_K(x, dims) for x in levels]
            for levels, dims in zip(predictions, dims_per_anchor, strict=True)
        ]

    def training_state(self) -> dict[str, Tensor]:
        """What a training has to keep beside the weights, to go on exactly where it stopped."""
        return {"loss_normalizer": self.loss_normalizer}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `training_state` gave."""
        self.loss_normalizer = state["loss_normalizer"]

    def _update_loss_normalizer(self, num_positive: Tensor) -> Tensor:
        """Move the normalizer towards the number of positive anchors of this batch."""
        number = num_positive.float().clamp(min=1)
        return self._ema_update("loss_normalizer", number, self.loss_normalizer)

    def _ema_update(
        self, name: str, value: Tensor | float, initial_value: Tensor | float, momentum: float = 0.9
    ) -> Tensor:
        """Move the attribute `name` towards a value, as an exponential moving average.

        It is a tensor so that no step waits for the GPU, and no buffer since detectron2 has none.

        Args:
            initial_value: of an attribute that is not there yet.
            momentum: how much of the old value stays.
        """
        value = torch.as_tensor(value, dtype=torch.float32)
        old = torch.as_tensor(getattr(self, name, initial_value), device=value.device)
        setattr(self, name, value.lerp(old.to(value.dtype), momentum))
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
        """The best entries of one level of one image, as boxes, best first.

        Args:
            anchors: R anchors of this level.
            pred_scores: (R, K) scores.
            pred_deltas: (R, 4).
            score_thresh: only higher scores count.
            topk_candidates: how many entries (pairs of anchor and class) are kept.
        """
        candidates = (pred_scores > score_thresh).nonzero()
        scores = pred_scores[candidates[:, 0], candidates[:, 1]]
        scores, best = scores.topk(min(topk_candidates, len(scores)))
        anchor_idxs, class_idxs = candidates[best].unbind(dim=1)
        boxes = self.box2box_transform.apply_deltas(
            pred_deltas[anchor_idxs], anchors.tensor[anchor_idxs]
        )
        return Instances(
            image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=class_idxs
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
        """The best entries of each level of one image, one level after the other."""
        levels = zip(anchors, pred_scores, pred_deltas, strict=True)
        return Instances.cat(
            [
                self._decode_per_level_predictions(
                    *level, score_thresh, topk_candidates, image_size
                )
                for level in levels
            ]
        )
