"""Mask heads that learn from labeled points (Cheng et al. 2022)."""

from torch import Tensor

from d2lite.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from d2lite.projects.point_rend import ImplicitPointRendMaskHead
from d2lite.projects.point_rend.point_features import point_sample
from d2lite.projects.point_rend.point_head import roi_mask_point_loss
from d2lite.structures import Instances

from .point_utils import get_point_coords_from_point_annotation


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsamplePointSupHead(MaskRCNNConvUpsampleHead):
    """Mask head of Mask R-CNN that is compared with the ground truth at points (sec. 4)."""

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """See `MaskRCNNConvUpsampleHead`; in training, `instances` have points, not masks."""
        if not self.training:
            return super().forward(x, instances)
        masks = self.layers(x)  # (R, K or 1, M, M)
        if len(masks) == 0:
            return {"loss_mask": masks.sum() * 0}
        point_coords, point_labels = get_point_coords_from_point_annotation(instances)
        point_logits = point_sample(masks, point_coords, align_corners=False)
        return {"loss_mask": roi_mask_point_loss(point_logits, instances, point_labels)}


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendPointSupHead(ImplicitPointRendMaskHead):
    """Mask head of Implicit PointRend that is trained at the labeled points (sec. 5)."""

    def _uniform_sample_train_points(self, instances: list[Instances]) -> tuple[Tensor, Tensor]:
        return get_point_coords_from_point_annotation(instances)
