"""The proposal network of TridentNet."""

import torch
from torch import Tensor

from d2lite.modeling import PROPOSAL_GENERATOR_REGISTRY
from d2lite.modeling.proposal_generator import RPN
from d2lite.structures import ImageList, Instances

from .branches import Branched


@PROPOSAL_GENERATOR_REGISTRY.register()
class TridentRPN(Branched, RPN):
    """RPN whose features contain every image once per branch."""

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See `RPN.forward`; takes N images and (B * N, C, Hi, Wi) features of B branches.

        Returns:
            B * N Instances, ordered by branch, and the losses.
        """
        num_branch = self.present_branches()
        tensor = torch.cat([images.tensor] * num_branch)
        images = ImageList(tensor, images.image_sizes * num_branch)
        if gt_instances is not None:
            gt_instances = gt_instances * num_branch
        return super().forward(images, features, gt_instances)
