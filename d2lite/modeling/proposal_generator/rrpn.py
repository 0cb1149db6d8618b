"""The region proposal network for rotated boxes (Ma et al. 2018)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec, batched_nms_rotated, cat
from d2lite.modeling.box_regression import Box2BoxTransformRotated
from d2lite.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
from d2lite.modeling.proposal_generator.proposal_utils import (
    _check_finite,
    gather_rows,
    top_candidates,
)
from d2lite.modeling.proposal_generator.rpn import RPN
from d2lite.structures import Instances, RotatedBoxes

__all__ = ["RRPN", "find_top_rrpn_proposals"]


def find_top_rrpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """`find_top_rpn_proposals` for rotated boxes: proposals are (N, Rl, 5)."""
    top = top_candidates(pred_objectness_logits, pre_nms_topk)
    boxes = cat([gather_rows(x, i) for x, i in zip(proposals, top.indices, strict=True)], dim=1)
    return _nms_candidates(
        boxes,
        top.logits,
        top.levels,
        image_sizes,
        nms_thresh=nms_thresh,
        post_nms_topk=post_nms_topk,
        min_box_size=min_box_size,
        training=training,
    )


def _nms_candidates(
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
    """The second half of `find_top_rrpn_proposals`, on (N, T, 5) boxes of all levels."""
    finite = torch.isfinite(boxes).all(dim=2) & torch.isfinite(logits)  # (N, T)
    if training:
        _check_finite(finite)
    results = []
    for i, image_size in enumerate(image_sizes):
        candidates = RotatedBoxes(boxes[i][finite[i]])
        candidates.clip(image_size)
        found = Instances(
            image_size, proposal_boxes=candidates, objectness_logits=logits[i][finite[i]]
        )
        large = candidates.nonempty(threshold=min_box_size)
        found, levels_of_image = found[large], levels[finite[i]][large]
        keep = batched_nms_rotated(
            found.proposal_boxes.tensor, found.objectness_logits, levels_of_image, nms_thresh
        )
        results.append(found[keep[:post_nms_topk]])
    return results


@PROPOSAL_GENERATOR_REGISTRY.register()
class RRPN(RPN):
    """RPN with rotated anchors and proposals."""

    @configurable
    def __init__(self, *args: Any, **kwargs: Any):
        """args, kwargs: of RPN.

        Raises:
            NotImplementedError: `anchor_boundary_thresh` is not negative.
        """
        super().__init__(*args, **kwargs)
        if self.anchor_boundary_thresh >= 0:
            raise NotImplementedError(
                "MODEL.RPN.BOUNDARY_THRESH does not work with rotated anchors: set it to -1"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        """As RPN, with deltas of rotated boxes."""
        return {
            **super().from_config(cfg, input_shape),
            "box2box_transform": Box2BoxTransformRotated(weights=cfg.MODEL.RPN.BBOX_REG_WEIGHTS),
        }

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[RotatedBoxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `RPN.label_and_sample_anchors`; boxes are (R, 5)."""
        all_anchors = RotatedBoxes.cat(anchors)
        labelled = [self._label_one_image(all_anchors, x) for x in gt_instances]
        return [labels for labels, _ in labelled], [boxes for _, boxes in labelled]

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[RotatedBoxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """See `RPN.predict_proposals`."""
        top = top_candidates(pred_objectness_logits, self.pre_nms_topk[self.training])
        boxes = [
            self._decode(gather_rows(deltas, rows), level_anchors.tensor[rows])
            for deltas, level_anchors, rows in zip(
                pred_anchor_deltas, anchors, top.indices, strict=True
            )
        ]
        return _nms_candidates(
            cat(boxes, dim=1),
            top.logits,
            top.levels,
            image_sizes,
            nms_thresh=self.nms_thresh,
            post_nms_topk=self.post_nms_topk[self.training],
            min_box_size=self.min_box_size,
            training=self.training,
        )
