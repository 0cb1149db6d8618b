"""Build backbones by name."""

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone.backbone import Backbone
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE", config_key="MODEL.BACKBONE.NAME")
BACKBONE_REGISTRY.__doc__ = """Callables (cfg, input_shape: ShapeSpec) -> Backbone."""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone named by MODEL.BACKBONE.NAME.

    Args:
        input_shape: channels of the images; by default as many as MODEL.PIXEL_MEAN has.
    Raises:
        KeyError: the name is not registered.
        TypeError: the result is not a Backbone.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise ArgumentError(
            f"MODEL.BACKBONE.NAME {name!r} built a {type(backbone).__name__}; "
            "a backbone must inherit from d2lite.modeling.Backbone"
        )
    return backbone
