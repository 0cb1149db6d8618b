"""Backbones by name."""

import pytest

from d2lite.config import get_cfg
from d2lite.modeling import BACKBONE_REGISTRY
from d2lite.modeling.backbone import build_backbone


def test_unknown_backbone_is_a_key_error_with_the_nearest_name():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbon"
    with pytest.raises(KeyError, match="build_resnet_backbone"):
        build_backbone(cfg)


def test_images_have_the_channels_of_the_pixel_mean_and_other_results_are_refused(monkeypatch):
    shapes = []
    monkeypatch.setitem(
        BACKBONE_REGISTRY._obj_map, "no_backbone", lambda cfg, shape: shapes.append(shape)
    )
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "no_backbone"
    cfg.MODEL.PIXEL_MEAN = [1.0] * 5
    with pytest.raises(TypeError, match=r"'no_backbone' built a NoneType; .* inherit .*Backbone"):
        build_backbone(cfg)
    assert [shape.channels for shape in shapes] == [5]
