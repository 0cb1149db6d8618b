"""The region heads of the first releases of PointRend."""

from d2lite.config import configurable
from d2lite.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads

from .weights import rename_on_load


@ROI_HEADS_REGISTRY.register()
class PointRendROIHeads(StandardROIHeads):
    """StandardROIHeads that also load weights from before PointRend's heads were one module.

    New configs should name StandardROIHeads.
    """

    _version = 2

    @configurable
    def __init__(self, **kwargs):
        """kwargs: arguments of StandardROIHeads."""
        super().__init__(**kwargs)
        rename_on_load(
            self,
            {
                "mask_point_head": "mask_head.point_head",
                "mask_coarse_head": "mask_head.coarse_head",
            },
        )
