"""Region heads that pool from levels of equal stride."""

from dataclasses import replace

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from d2lite.modeling.backbone.backbone import select_features

POOLERS = ("box_pooler", "mask_pooler", "keypoint_pooler")


@ROI_HEADS_REGISTRY.register()
class DetNetROIHeads(StandardROIHeads):
    """Standard heads for a pyramid whose upper levels have equal strides.

    The level of a box only depends on its size, as if every level had twice the stride of the one
    below (FPN, eq. 1): boxes of at least 448 pixels belong to p5, although it has the stride of p4.
    Its features see more of the image, which large objects need.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return the parts of `StandardROIHeads`, with poolers for the actual strides."""
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        shapes = select_features(input_shape, names, "MODEL.ROI_HEADS.IN_FEATURES")
        doubling = {
            name: replace(shape, stride=shapes[0].stride * 2**i)
            for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
        }
        parts = super().from_config(cfg, {**input_shape, **doubling})
        for name in POOLERS:
            if parts.get(name) is not None:
                scales = parts[name].scales = [1.0 / shape.stride for shape in shapes]
                for pooler, scale in zip(parts[name].level_poolers, scales, strict=True):
                    pooler.spatial_scale = scale
        return parts
