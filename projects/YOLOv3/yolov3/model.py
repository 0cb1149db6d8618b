"""YOLOv3 (Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767)."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import cat
from d2lite.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.detection_steps import nms_detections, select_candidates
from d2lite.modeling.meta_arch.dense_detector import DenseDetector, DetectionSettings
from d2lite.modeling.meta_arch.inputs import batch_images, required_field
from d2lite.structures import Boxes, ImageList, Instances, pairwise_iou
from d2lite.utils.events import get_event_storage, has_event_storage, log_scalar

from .boxes import Grid, assign_objects, decode, encode, make_grid
from .darknet_weights import accept_darknet_files
from .head import YOLOv3Head
from .letterbox import fit_letterbox, letterbox
from .losses import ignored_predictions, yolov3_losses


@META_ARCH_REGISTRY.register()
class YOLOv3(DenseDetector):
    """Detector with anchors on three scales, objectness and independent classes.

    Images of any size are centered in a gray square, and detections are mapped back.
    """

    class_count_keys = {"MODEL.YOLOV3.NUM_CLASSES": "thing_classes"}

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchors: Sequence[Sequence[float]],
        image_size: int = 416,
        train_sizes: Sequence[int] = (),
        train_size_period: int = 10,
        num_classes: int,
        ignore_threshold: float = 0.5,
        test_score_thresh: float = 0.005,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.45,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "RGB",
    ):
        """Compose the model.

        Args:
            head: see `YOLOv3Head`.
            head_in_features: names of the features, by ascending stride.
            anchors: widths and heights in pixels, by ascending size; each feature gets an equal
                share of them.
            image_size: side of the square into which images are put.
            train_sizes: sides from which one is chosen in training; empty: `image_size`.
            train_size_period: number of iterations for which a side is kept.
            num_classes: K.
            ignore_threshold: predictions without an object whose IoU with any object is above this
                have no objectness loss.
            test_topk_candidates: number of candidates per image before NMS.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.
            test_score_thresh, test_nms_thresh, max_detections_per_image, vis_period,
                input_format: see `DetectionSettings`.

        Raises:
            ValueError: a setting is not possible; the message names it.
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
        shapes = backbone.output_shape()
        self.strides = [shapes[name].stride for name in head_in_features]
        _check_sizes("MODEL.YOLOV3.IMAGE_SIZE", [image_size], self.strides)
        _check_sizes("MODEL.YOLOV3.TRAIN_SIZES", train_sizes, self.strides)
        by_level = torch.tensor(anchors).float().view(len(self.strides), -1, 2)
        self.register_buffer("anchors", by_level, persistent=False)  # (L, A, 2)
        self.image_size = image_size
        self.train_sizes = list(train_sizes) or [image_size]
        self.train_size_period = train_size_period
        self.num_classes = num_classes
        self.ignore_threshold = ignore_threshold
        accept_darknet_files(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.YOLOV3 and build the parts from the config."""
        yolo = cfg.MODEL.YOLOV3
        backbone = build_backbone(cfg)
        shapes = select_features(
            backbone.output_shape(), yolo.IN_FEATURES, "MODEL.YOLOV3.IN_FEATURES"
        )
        _check_strides([shape.stride for shape in shapes])
        head = YOLOv3Head(
            [shape.channels for shape in shapes],
            anchors_per_level(yolo.ANCHORS, len(shapes)),
            yolo.NUM_CLASSES,
            norm=cfg.MODEL.DARKNET.NORM,
            prior_prob=yolo.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": yolo.IN_FEATURES,
            "anchors": yolo.ANCHORS,
            "image_size": yolo.IMAGE_SIZE,
            "train_sizes": yolo.TRAIN_SIZES,
            "train_size_period": yolo.TRAIN_SIZE_PERIOD,
            "num_classes": yolo.NUM_CLASSES,
            "ignore_threshold": yolo.IGNORE_THRESHOLD,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **DetectionSettings.from_config(cfg, yolo)._asdict(),
        }

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Put the images into squares and normalize them.

        Returns:
            The squares; `image_sizes` are the original sizes of the images.
        """
        images = required_field(batched_inputs, "image")
        side = self._training_side() if self.training else self.image_size
        squares = [letterbox(image.to(self.device), side) for image in images]
        batch = batch_images(squares, self.pixel_mean, self.pixel_std).tensor
        return ImageList(batch, [tuple(image.shape[-2:]) for image in images])

    def _training_side(self) -> int:
        """Return the side for this iteration, the same on all ranks and after a restart."""
        iteration = get_event_storage().iter if has_event_storage() else 0
        return random.Random(iteration // self.train_size_period).choice(self.train_sizes)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """See `DenseDetector.forward_training`; returns "loss_xy", "loss_wh", "loss_obj" and
        "loss_cls"."""
        sizes = [tuple(x.shape[-2:]) for x in features]
        side = images.tensor.shape[-1]
        gt_boxes = [
            fit_letterbox(gt.image_size, side).to_square(gt.gt_boxes.tensor) for gt in gt_instances
        ]
        owners = torch.stack(
            [assign_objects(x, sizes, self.strides, self.anchors) for x in gt_boxes]
        )  # (N, R)
        positive = owners >= 0
        log_scalar("num_pos_anchors", positive.sum() / len(positive))
        flat = self._flatten(predictions)
        grid = make_grid(sizes, self.strides, self.anchors)
        image, index = positive.nonzero(as_tuple=True)  # (P,) each
        # Objects are numbered across all images.
        counts = [len(x) for x in gt_boxes]
        firsts = torch.tensor([0, *counts[:-1]], device=owners.device).cumsum(0)
        objects = owners[positive] + firsts[image]
        boxes = torch.cat(gt_boxes)[objects]  # (P, 4)
        offsets, log_ratios = encode(boxes, Grid(*(x[index] for x in grid)))
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        return yolov3_losses(
            flat,
            offsets,
            log_ratios,
            torch.cat([x.gt_classes for x in gt_instances])[objects],
            2 - areas / side**2,
            positive=positive,
            ignored=self._ignored(flat, grid, gt_boxes),
        )

    @torch.no_grad()
    def _ignored(self, predictions: Tensor, grid: Grid, gt_boxes: Sequence[Tensor]) -> Tensor:
        """Return (N, R) bool: whether a prediction is close to any object, its own or another."""
        decoded = decode(predictions[..., :4], grid)
        return torch.stack(
            [
                ignored_predictions(pairwise_iou(Boxes(gt), Boxes(boxes)), self.ignore_threshold)
                for gt, boxes in zip(gt_boxes, decoded, strict=True)
            ]
        )

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """Return the detections of each image, in its original size."""
        sizes = [tuple(x.shape[-2:]) for x in features]
        grid = make_grid(sizes, self.strides, self.anchors)
        side = images.tensor.shape[-1]
        return [
            self.inference_single_image(x, grid, image_size, side)
            for x, image_size in zip(self._flatten(predictions), images.image_sizes, strict=True)
        ]

    def inference_single_image(
        self, predictions: Tensor, grid: Grid, image_size: tuple[int, int], side: int
    ) -> Instances:
        """Return the detections of one image, best first; scores are objectness times class
        probability.

        Args:
            predictions: (R, 5 + K).
            grid: positions of the predictions.
            image_size: original (height, width) of the image.
            side: side of its square.
        """
        scores = predictions[:, 4:5].sigmoid() * predictions[:, 5:].sigmoid()  # (R, K)
        best = select_candidates(scores, self.test_score_thresh, self.test_topk_candidates)
        boxes = decode(predictions[best.anchors, :4], Grid(*(x[best.anchors] for x in grid)))
        candidates = Instances(
            image_size, pred_boxes=Boxes(boxes), scores=best.scores, pred_classes=best.classes
        )
        found = nms_detections(candidates, self.test_nms_thresh, self.max_detections_per_image)
        place = fit_letterbox(image_size, side)
        found.pred_boxes = Boxes(place.to_image(found.pred_boxes.tensor))
        found.pred_boxes.clip(image_size)
        return found

    def _flatten(self, predictions: Sequence[list[Tensor]]) -> Tensor:
        """Return (N, R, 5 + K) predictions of all levels, in the order of `Grid`."""
        (levels,) = self._transpose_dense_predictions(predictions, [5 + self.num_classes])
        return cat(levels, dim=1).float()


def anchors_per_level(anchors: Sequence[Sequence[float]], num_levels: int) -> int:
    """Return the number of anchors per level.

    Raises:
        ValueError: the anchors are not pairs of positive numbers, or cannot be divided evenly.
    """
    if any(len(pair) != 2 or min(pair) <= 0 for pair in anchors):
        raise ValueError(
            f"MODEL.YOLOV3.ANCHORS is {anchors}; give [width, height] of each, in pixels"
        )
    if not anchors or len(anchors) % num_levels:
        raise ValueError(
            f"MODEL.YOLOV3.ANCHORS has {len(anchors)} anchors, which cannot be divided evenly "
            f"among {num_levels} features; give a multiple of {num_levels}"
        )
    return len(anchors) // num_levels


def _check_strides(strides: Sequence[int]) -> None:
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(
            f"the features of MODEL.YOLOV3.IN_FEATURES have strides {list(strides)}; "
            "each must be twice the one before it"
        )


def _check_sizes(key: str, sizes: Sequence[int], strides: Sequence[int]) -> None:
    for size in sizes:
        if size <= 0 or size % strides[-1]:
            raise ValueError(f"{key} has {size}; sides must be multiples of {strides[-1]}")
