"""The region heads of TridentNet."""

from torch import Tensor

from d2lite.layers import batched_nms
from d2lite.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads, StandardROIHeads
from d2lite.structures import ImageList, Instances

from .branches import Branched


def merge_branch_instances(
    instances: list[Instances], num_branch: int, nms_thresh: float, topk_per_image: int
) -> list[Instances]:
    """Merge the detections of all branches with non-maximum suppression.

    Args:
        instances: detections in B * N images, ordered by branch.
        num_branch: B.
        nms_thresh: IoU above which the lower-scoring of two boxes of a class is dropped.
        topk_per_image: maximum number of detections per image.
    Returns:
        The detections in the N images, best first.
    """
    if num_branch == 1:
        return instances
    num_images = len(instances) // num_branch
    merged = []
    for i in range(num_images):
        x = Instances.cat(instances[i::num_images])
        keep = batched_nms(x.pred_boxes.tensor, x.scores, x.pred_classes, nms_thresh)
        merged.append(x[keep[:topk_per_image]])
    return merged


class _BranchedHeads(Branched):
    """Mixin for region heads that get B * N images of B branches."""

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See `ROIHeads.forward`; features and proposals are of B * N images, targets of N."""
        num_branch = self.present_branches()
        if targets is not None:
            targets = targets * num_branch
        instances, losses = super().forward(images, features, proposals, targets)
        if not self.training:
            instances = merge_branch_instances(
                instances,
                num_branch,
                self.box_predictor.test_nms_thresh,
                self.box_predictor.test_topk_per_image,
            )
        return instances, losses


@ROI_HEADS_REGISTRY.register()
class TridentRes5ROIHeads(_BranchedHeads, Res5ROIHeads):
    """Region heads of TridentNet on res4."""


@ROI_HEADS_REGISTRY.register()
class TridentStandardROIHeads(_BranchedHeads, StandardROIHeads):
    """Region heads of TridentNet on res5."""
