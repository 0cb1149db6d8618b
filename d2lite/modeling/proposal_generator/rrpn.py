"""The region proposal network for rotated boxes (Ma et al. 2018)."""

from collections.abc import Mapping
from typing import Any

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransformRotated
from d2lite.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
from d2lite.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from d2lite.modeling.proposal_generator.rpn import RPN

# Proposals of five numbers are rotated boxes; everything else is the same for both kinds.
find_top_rrpn_proposals = find_top_rpn_proposals


@PROPOSAL_GENERATOR_REGISTRY.register()
class RRPN(RPN):
    """RPN with rotated anchors and proposals."""

    @configurable
    def __init__(self, *args: Any, **kwargs: Any):
        """args, kwargs: passed to RPN.

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
        """Like RPN, with deltas of rotated boxes."""
        return {
            **super().from_config(cfg, input_shape),
            "box2box_transform": Box2BoxTransformRotated(weights=cfg.MODEL.RPN.BBOX_REG_WEIGHTS),
        }
