"""Select proposals from scored boxes: the best of each level, NMS, the best of all levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from d2lite.layers import cat
from d2lite.modeling.detection_steps import (
    as_boxes,
    gather_rows,
    nms_within,
    select_top_of_levels,
)
from d2lite.structures import Boxes, Instances

# Logit of a probability of 1 - 1e-10, for ground-truth boxes.
GT_LOGIT = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))


def find_top_rpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Keep the best boxes of each level, clip them, apply NMS, and keep the best of all levels.

    Args:
        proposals: per level, (N, Rl, 4) boxes, or (N, Rl, 5) rotated ones.
        pred_objectness_logits: per level, (N, Rl); may contain non-finite values.
        image_sizes: (H, W) of the N images, or of the first ones; the others are ignored.
        nms_thresh: IoU above which the lower-scoring of two boxes of a level is dropped.
        pre_nms_topk: boxes to keep per level and image before NMS.
        post_nms_topk: boxes to keep per image after NMS.
        min_box_size: minimum side in pixels of the input image; smaller boxes are dropped.
        training: whether non-finite boxes or scores raise an error; otherwise they are dropped.
    Returns:
        For each image, Instances with `proposal_boxes` and `objectness_logits`, best first.
    Raises:
        FloatingPointError: non-finite values in training.
    """
    num_images = len(image_sizes)
    top = select_top_of_levels([x[:num_images] for x in pred_objectness_logits], pre_nms_topk)
    boxes = [
        gather_rows(x[:num_images], rows) for x, rows in zip(proposals, top.indices, strict=True)
    ]
    return nms_proposals(
        cat(boxes, 1),
        top.logits,
        top.levels,
        image_sizes,
        nms_thresh=nms_thresh,
        post_nms_topk=post_nms_topk,
        min_box_size=min_box_size,
        training=training,
    )


def nms_proposals(
    boxes: Tensor,
    logits: Tensor,
    levels: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    *,
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Run the second half of `find_top_rpn_proposals`, on (N, T, 4 or 5) boxes of all levels."""
    finite = torch.isfinite(boxes).all(dim=2) & torch.isfinite(logits)  # (N, T)
    if training and not finite.all():
        raise FloatingPointError(
            f"{int((~finite).sum())} of {finite.numel()} predicted proposals are not finite: "
            "training has diverged. Lower SOLVER.BASE_LR, warm up for longer "
            "(SOLVER.WARMUP_ITERS) or clip gradients (SOLVER.CLIP_GRADIENTS.ENABLED True)"
        )
    proposals = []
    for boxes_i, logits_i, ok, image_size in zip(boxes, logits, finite, image_sizes, strict=True):
        found, scored, level = as_boxes(boxes_i[ok]), logits_i[ok], levels[ok]
        found.clip(image_size)
        keep = found.nonempty(threshold=min_box_size)
        found, scored, level = found[keep], scored[keep], level[keep]
        # NMS per level: boxes of different levels differ in size and rarely cover the same object.
        keep = nms_within(level, found, scored, nms_thresh)[:post_nms_topk]
        proposals.append(
            Instances(image_size, proposal_boxes=found[keep], objectness_logits=scored[keep])
        )
    return proposals


def add_ground_truth_to_proposals(
    gt: list[Instances] | list[Boxes], proposals: list[Instances]
) -> list[Instances]:
    """Append the ground-truth boxes to the proposals of each image.

    Early proposals may miss every object; the added boxes provide foreground from the start.

    Args:
        gt: Boxes, or Instances with `gt_boxes`, for each image.
        proposals: Instances with `proposal_boxes` and `objectness_logits`.
    Raises:
        ValueError: the lists differ in length.
        AssertionError: proposals have further fields that the ground truth lacks.
    """
    if len(gt) != len(proposals):
        raise ValueError(f"ground truth of {len(gt)} images for proposals of {len(proposals)}")
    return [
        add_ground_truth_to_proposals_single_image(gt_i, proposals_i)
        for gt_i, proposals_i in zip(gt, proposals, strict=True)
    ]


def add_ground_truth_to_proposals_single_image(
    gt: Instances | Boxes, proposals: Instances
) -> Instances:
    """`add_ground_truth_to_proposals` for one image."""
    if isinstance(gt, Boxes):
        gt = Instances(proposals.image_size, gt_boxes=gt)
    # Always in float32: half precision can't represent this probability.
    certain = torch.full(
        (len(gt.gt_boxes),),
        GT_LOGIT,
        dtype=torch.float32,
        device=proposals.objectness_logits.device,
    )
    as_proposals = Instances(proposals.image_size, **gt.get_fields())
    as_proposals.proposal_boxes = gt.gt_boxes
    as_proposals.objectness_logits = certain
    missing = [name for name in proposals.get_fields() if not as_proposals.has(name)]
    assert not missing, f"proposals have fields {missing}, which the ground truth lacks"
    return Instances.cat([proposals, as_proposals])
