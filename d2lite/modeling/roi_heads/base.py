"""Base class of the region heads: labels proposals by the ground truth and samples them."""

import torch
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone.backbone import select_features
from d2lite.modeling.detection_steps import class_labels
from d2lite.modeling.matcher import Matcher, match_boxes
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from d2lite.modeling.sampling import subsample_labels
from d2lite.structures import ImageList, Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import log_scalar
from d2lite.utils.registry import Registry

ROI_HEADS_REGISTRY = Registry("ROI_HEADS", config_key="MODEL.ROI_HEADS.NAME")
ROI_HEADS_REGISTRY.__doc__ = """Callables (cfg, input_shape by feature name) -> ROIHeads."""


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the heads named by MODEL.ROI_HEADS.NAME."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[Tensor]]:
    """Return the foreground of each image.

    Args:
        proposals: per image, with `gt_classes`.
        bg_label: the background class. Ignored proposals (-1) are not foreground either.
    Returns:
        The foreground proposals; and for each image the (R,) bool mask that picked them.
    """
    masks = [(x.gt_classes != -1) & (x.gt_classes != bg_label) for x in proposals]
    # Compute the indices once, not once per field.
    chosen = [x[mask.nonzero()[:, 0]] for x, mask in zip(proposals, masks, strict=True)]
    return chosen, masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Return the proposals of each image that contain at least one visible keypoint.

    Others have nothing to train on, since a keypoint outside of the proposal has no cell in its
    heat map.

    Args:
        proposals: with `gt_keypoints` and `proposal_boxes`; all foreground.
    """
    selected, counts = [], []
    for x in proposals:
        if len(x) == 0:  # may lack gt_keypoints
            selected.append(x)
            continue
        keypoints = x.gt_keypoints.tensor  # (R, K, 3): x, y, visibility
        boxes = x.proposal_boxes.tensor[:, None, :]  # (R, 1, 4)
        points = keypoints[..., :2]
        inside = ((points >= boxes[..., :2]) & (points <= boxes[..., 2:])).all(dim=2)
        visible = (inside & (keypoints[..., 2] >= 1)).any(dim=1)
        selected.append(x[visible.nonzero()[:, 0]])
        counts.append(len(selected[-1]))
    # Averaged over the images that have any foreground.
    log_scalar("keypoint_head/num_fg_samples", sum(counts) / max(len(counts), 1))
    return selected


class ROIHeads(nn.Module):
    """Base class of the region heads: labels and samples proposals for training.

    Subclasses define `forward`.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        """Store the settings of sampling.

        Args:
            num_classes: K, without the background, which gets index K.
            batch_size_per_image: proposals that are sampled per image.
            positive_fraction: the maximum fraction of foreground among them.
            proposal_matcher: labels proposals by their IoU with the ground truth.
            proposal_append_gt: whether the ground-truth boxes are proposals too.
        """
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.ROI_HEADS."""
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
            "proposal_matcher": Matcher(
                heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False
            ),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Predict classes, boxes and so on of the proposed regions.

        Args:
            images: the N images of the batch.
            features: by name, (N, C, Hi, Wi).
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: per image, with `gt_boxes`, `gt_classes`, and `gt_masks` and `gt_keypoints` if
                the branches need them; only needed in training.
        Returns:
            In training the sampled proposals and the losses; otherwise detections, with
            `pred_boxes`, `scores`, `pred_classes` and what the branches add, and no losses.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Assign classes and ground truth to the proposals, and sample them for training.

        Args:
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: per image, with `gt_boxes` and `gt_classes`.
        Returns:
            For each image at most `batch_size_per_image` proposals with `gt_classes` (K is
            background) and the other `gt_*` fields of their matched object. Proposals of an image
            without objects have only `gt_classes`.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled = []
        for x, target in zip(proposals, targets, strict=True):
            gt_index, labels = match_boxes(self.proposal_matcher, target.gt_boxes, x.proposal_boxes)
            rows, gt_classes = self._sample_proposals(gt_index, labels, target.gt_classes)
            chosen = x[rows]
            chosen.gt_classes = gt_classes
            if len(target) > 0:
                for name, value in target.get_fields().items():
                    if name.startswith("gt_") and not chosen.has(name):
                        chosen.set(name, value[gt_index[rows]])
            sampled.append(chosen)
        counts = [(x.gt_classes == self.num_classes).sum() for x in sampled]
        num_background = torch.stack(counts).sum()
        num_sampled = sum(len(x) for x in sampled)
        log_scalar("roi_head/num_fg_samples", (num_sampled - num_background) / len(sampled))
        log_scalar("roi_head/num_bg_samples", num_background / len(sampled))
        return sampled

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sample proposals by their class.

        Args:
            matched_idxs: (R,) the object that each proposal matches best.
            matched_labels: (R,) 1 foreground, 0 background, -1 ignored.
            gt_classes: (M,) of the objects.
        Returns:
            (S,) indices of the sampled proposals, and their (S,) classes in [0, K].
        """
        classes = class_labels(gt_classes, matched_idxs, matched_labels, self.num_classes)
        foreground, background = subsample_labels(
            classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        rows = torch.cat([foreground, background])
        return rows, classes[rows]


def build_pooler(
    cfg: CfgNode, input_shape: dict[str, ShapeSpec], head: CfgNode
) -> tuple[ROIPooler, ShapeSpec]:
    """Return the pooler of a branch, and the shape of its output."""
    names = cfg.MODEL.ROI_HEADS.IN_FEATURES
    shapes = select_features(input_shape, names, "MODEL.ROI_HEADS.IN_FEATURES")
    channels = {shape.channels for shape in shapes}
    if len(channels) != 1:
        raise ArgumentError(
            "MODEL.ROI_HEADS.IN_FEATURES must have equal channels, because they share one head: "
            f"{ {name: shape.channels for name, shape in zip(names, shapes, strict=True)} }"
        )
    resolution = head.POOLER_RESOLUTION
    pooler = ROIPooler(
        output_size=resolution,
        scales=[1.0 / shape.stride for shape in shapes],
        sampling_ratio=head.POOLER_SAMPLING_RATIO,
        pooler_type=head.POOLER_TYPE,
    )
    return pooler, ShapeSpec(channels=channels.pop(), height=resolution, width=resolution)
