"""The proposal network of TridentNet."""

import torch
from torch import Tensor

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec
from d2lite.modeling import PROPOSAL_GENERATOR_REGISTRY
from d2lite.modeling.proposal_generator import RPN
from d2lite.structures import ImageList, Instances

__all__ = ["TridentRPN"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class TridentRPN(RPN):
    """An RPN whose features hold every image once for each branch."""

    @configurable
    def __init__(self, *, num_branch: int, trident_fast: bool, **kwargs):
        """Set the number of branches.

        Args:
            num_branch: in training.
            trident_fast: whether there is a single branch at inference.
            kwargs: of RPN.
        """
        super().__init__(**kwargs)
        self.num_branch = num_branch
        self.trident_fast = trident_fast

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.TRIDENT too."""
        return {
            **super().from_config(cfg, input_shape),
            "num_branch": cfg.MODEL.TRIDENT.NUM_BRANCH,
            "trident_fast": cfg.MODEL.TRIDENT.TEST_BRANCH_IDX != -1,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """As that of RPN, with N images and (B * N, C, Hi, Wi) features of B branches.

        Returns:
            B * N Instances, all images of the first branch first, and the losses.
        """
        num_branch = 1 if self.trident_fast and not self.training else self.num_branch
        tensor = torch.cat([images.tensor] * num_branch)
        images = ImageList(tensor, images.image_sizes * num_branch)
        if gt_instances is not None:
            gt_instances = gt_instances * num_branch
        return super().forward(images, features, gt_instances)
