"""The region proposal network (Ren et al. 2015)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec, SparseGradConv2d, cat
from d2lite.modeling.anchor_generator import build_anchor_generator
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.box_regression import Box2BoxTransform, box_loss, dense_box_regression_loss
from d2lite.modeling.detection_steps import (
    gather_rows,
    matched_boxes,
    permute_to_N_HWA_K,
    select_top_of_levels,
)
from d2lite.modeling.matcher import BACKGROUND, FOREGROUND, IGNORED, Matcher, match_boxes
from d2lite.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
from d2lite.modeling.proposal_generator.proposal_utils import (
    find_top_rpn_proposals,
    nms_proposals,
)
from d2lite.modeling.sampling import subsample_labels
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import log_scalar
from d2lite.utils.memory import retry_if_cuda_oom
from d2lite.utils.registry import Registry

RPN_HEAD_REGISTRY = Registry("RPN_HEAD", config_key="MODEL.RPN.HEAD_NAME")
RPN_HEAD_REGISTRY.__doc__ = """Callables (cfg, input_shape: list of ShapeSpec) -> nn.Module.

The module is called with L levels of features and returns objectness logits (N, A, Hi, Wi) and
anchor deltas (N, A * box_dim, Hi, Wi) of each level.
"""


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by MODEL.RPN.HEAD_NAME, for levels of these shapes."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then objectness and deltas for every anchor; shared by all levels."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ):
        """Describe the layers.

        Args:
            in_channels: C of every level.
            num_anchors: A, anchors per cell.
            box_dim: numbers in a box: 4, or 5 for rotated boxes.
            conv_dims: channels of the 3x3 convolutions; -1 keeps those of the input.
        Raises:
            ValueError: `conv_dims` is empty, or has a value of 0 or below -1.
        """
        super().__init__()
        if not conv_dims or any(width < 1 and width != -1 for width in conv_dims):
            raise ArgumentError(
                f"MODEL.RPN.CONV_DIMS is {list(conv_dims)}; it needs one or more widths, "
                "each positive or -1 for the width of the input"
            )
        convs = []
        for width in conv_dims:
            out_channels = in_channels if width == -1 else width
            convs.append(self._get_rpn_conv(in_channels, out_channels))
            in_channels = out_channels
        # Names in detectron2's weights: conv0, conv1, ..., but conv if there is only one.
        numbered = OrderedDict((f"conv{i}", conv) for i, conv in enumerate(convs))
        self.conv = convs[0] if len(convs) == 1 else nn.Sequential(numbered)
        self.objectness_logits = SparseGradConv2d(in_channels, num_anchors, kernel_size=1)
        self.anchor_deltas = SparseGradConv2d(in_channels, num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Take anchors per cell from the configured anchor generator."""
        anchor_generator = build_anchor_generator(cfg, input_shape)
        return {
            "in_channels": _shared_by_levels([s.channels for s in input_shape], "channels"),
            "num_anchors": _shared_by_levels(anchor_generator.num_anchors, "anchors per cell"),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        """Return a 3x3 convolution with its activation; subclasses may override it."""
        return SparseGradConv2d(in_channels, out_channels, 3, padding=1, activation=F.relu_)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """L levels of (N, C, Hi, Wi) -> L of (N, A, Hi, Wi) and L of (N, A * box_dim, Hi, Wi)."""
        pred_objectness_logits, pred_anchor_deltas = [], []
        for x in features:
            x = self.conv(x)
            pred_objectness_logits.append(self.objectness_logits(x))
            pred_anchor_deltas.append(self.anchor_deltas(x))
        return pred_objectness_logits, pred_anchor_deltas


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Network that scores anchors by objectness, refines them, and proposes the best."""

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ):
        """Compose the network.

        Args:
            in_features: names of the features to use, one for each level of the anchor generator.
            head: maps features to objectness logits and deltas, see RPN_HEAD_REGISTRY.
            anchor_matcher: labels anchors by their IoU with the ground truth.
            box2box_transform: encodes boxes as deltas to anchors.
            batch_size_per_image: anchors that are sampled per image for the loss.
            positive_fraction: the maximum fraction of foreground among them.
            pre_nms_topk: proposals to keep per level before NMS, (training, inference).
            post_nms_topk: proposals to keep per image after NMS, (training, inference).
            nms_thresh: IoU above which NMS drops the lower-scoring of two proposals.
            min_box_size: minimum side in pixels of the input image; smaller proposals are dropped.
            anchor_boundary_thresh: anchors that extend more than this many pixels outside the image
                are ignored in training; negative to use all.
            loss_weight: one value, or a dict with "loss_rpn_cls" and "loss_rpn_loc".
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            smooth_l1_beta: the smooth L1 loss is quadratic for differences below this.
        """
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # Looked up with self.training as the key.
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if isinstance(loss_weight, int | float):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        box_loss(box_reg_loss_type)  # raises now if the name is unknown
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        """Read MODEL.RPN, MODEL.PROPOSAL_GENERATOR and what the anchors need."""
        rpn = cfg.MODEL.RPN
        shapes = select_features(input_shape, rpn.IN_FEATURES, "MODEL.RPN.IN_FEATURES")
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Propose boxes; in training, also compute the losses.

        Args:
            images: N images; proposals are clipped to their sizes.
            features: by name, (N, C, Hi, Wi).
            gt_instances: with `gt_boxes`; only needed in training.
        Returns:
            For each image Instances with `proposal_boxes` and `objectness_logits`, best first;
            and the losses, empty at inference.
        """
        levels = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(levels)
        logits, deltas = self.rpn_head(levels)
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]  # (N, Hi*Wi*A)
        box_dim = self.anchor_generator.box_dim
        deltas = [permute_to_N_HWA_K(x, box_dim) for x in deltas]  # (N, Hi*Wi*A, box_dim)
        losses = {}
        if self.training:
            assert gt_instances is not None, (
                "RPN needs ground truth in training, the 'instances' of every input"
            )
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Match the anchors of every image with its objects, and sample anchors for the loss.

        Args:
            anchors: per level.
            gt_instances: per image, with `gt_boxes`.
        Returns:
            For each image (R,) int8 labels: 1 foreground, 0 background, -1 not sampled; and
            (R, box_dim) boxes, zeros for an image without objects. R anchors of all levels.
        """
        all_anchors = type(anchors[0]).cat(anchors)
        labels, boxes = [], []
        for gt in gt_instances:
            gt_boxes = gt.gt_boxes
            matches, match_labels = retry_if_cuda_oom(match_boxes)(
                self.anchor_matcher, gt_boxes, all_anchors
            )
            # The matching is done on the CPU if the matrix does not fit into GPU memory.
            matches, match_labels = matches.to(gt_boxes.device), match_labels.to(gt_boxes.device)
            if self.anchor_boundary_thresh >= 0:
                inside = all_anchors.inside_box(gt.image_size, self.anchor_boundary_thresh)
                match_labels[~inside] = IGNORED
            labels.append(self._subsample_labels(match_labels))
            boxes.append(matched_boxes(gt_boxes, matches))
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the cross entropy of the sampled anchors, and the box loss of the foreground.

        Both are divided by the nominal number of samples, `batch_size_per_image` times N.

        Args:
            anchors: per level.
            pred_objectness_logits: per level, (N, Ri).
            gt_labels, gt_boxes: per image, see `label_and_sample_anchors`.
            pred_anchor_deltas: per level, (N, Ri, box_dim).
        """
        labels = torch.stack(gt_labels)  # (N, R)
        num_images = len(gt_labels)
        positive = labels == FOREGROUND
        log_scalar("rpn/num_pos_anchors", positive.sum() / num_images)
        log_scalar("rpn/num_neg_anchors", (labels == BACKGROUND).sum() / num_images)

        sampled = labels >= 0
        loss_cls = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1)[sampled],
            labels[sampled].to(torch.float32),
            reduction="sum",
        )
        loss_loc = dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            positive,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        normalizer = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": loss_cls / normalizer, "loss_rpn_loc": loss_loc / normalizer}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode the best anchors of each level and filter them by NMS.

        Proposals carry no gradients (approximate joint training, Faster R-CNN, sec. 3.2).

        Args:
            anchors: per level.
            pred_objectness_logits: per level, (N, Ri).
            pred_anchor_deltas: per level, (N, Ri, box_dim).
            image_sizes: (H, W) of the N images.
        """
        settings = {
            "nms_thresh": self.nms_thresh,
            "post_nms_topk": self.post_nms_topk[self.training],
            "min_box_size": self.min_box_size,
            "training": self.training,
        }
        pre_nms_topk = self.pre_nms_topk[self.training]
        if type(self)._decode_proposals is not RPN._decode_proposals:
            boxes = self._decode_proposals(anchors, pred_anchor_deltas)
            return find_top_rpn_proposals(
                boxes, pred_objectness_logits, image_sizes, pre_nms_topk=pre_nms_topk, **settings
            )
        # Only the candidates are decoded: a few thousand of several hundred thousand anchors.
        top = select_top_of_levels(pred_objectness_logits, pre_nms_topk)
        boxes = [
            self._decode(gather_rows(deltas, rows), level_anchors.tensor[rows])
            for deltas, level_anchors, rows in zip(
                pred_anchor_deltas, anchors, top.indices, strict=True
            )
        ]
        return nms_proposals(
            cat(boxes, dim=1),
            top.logits,
            top.levels,
            image_sizes,
            **settings,
        )

    def _decode_proposals(
        self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]
    ) -> list[Tensor]:
        """Decode the boxes of all anchors: per level, (N, Ri, box_dim).

        `predict_proposals` calls it only if a subclass overrides it.
        """
        return [
            self._decode(deltas, level_anchors.tensor.expand_as(deltas))
            for deltas, level_anchors in zip(pred_anchor_deltas, anchors, strict=True)
        ]

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Set all labels except those of a random sample to -1, in place (sec. 3.1.3).

        Otherwise the background would dominate the loss. Subclasses may sample differently.
        """
        positive, negative = subsample_labels(
            label, self.batch_size_per_image, self.positive_fraction, BACKGROUND
        )
        label.fill_(IGNORED)
        label.scatter_(0, positive, FOREGROUND)
        label.scatter_(0, negative, BACKGROUND)
        return label

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(N, T, box_dim) deltas and anchors -> (N, T, box_dim) boxes."""
        boxes = self.box2box_transform.apply_deltas(deltas.flatten(0, 1), anchors.flatten(0, 1))
        return boxes.view_as(deltas)


def _shared_by_levels(values: Sequence[int], what: str) -> int:
    if len(set(values)) != 1:
        raise ArgumentError(
            "StandardRPNHead shares its weights between levels, so all need the same number of "
            f"{what}; they have {list(values)}"
        )
    return values[0]
