"""The interface of backbones."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from d2lite.modeling.backbone.backbone import select_features


class Halve(Backbone):
    def __init__(self):
        super().__init__()
        self._out_features = ["half"]
        self._out_feature_channels = {"half": 3}
        self._out_feature_strides = {"half": 2}

    def forward(self, x):
        return {"half": x[..., ::2, ::2]}


def test_defaults_of_the_interface():
    backbone = Halve()
    assert backbone.size_divisibility == 0
    assert backbone.padding_constraints == {}
    assert backbone.output_shape() == {"half": ShapeSpec(channels=3, stride=2)}


def test_a_backbone_needs_forward():
    with pytest.raises(TypeError, match="forward"):
        Backbone()


def test_features_are_selected_in_the_asked_order():
    shapes = {"a": ShapeSpec(channels=1), "b": ShapeSpec(channels=2)}
    assert [s.channels for s in select_features(shapes, ["b", "a"], "KEY")] == [2, 1]


def test_missing_feature_names_key_and_known_features():
    with pytest.raises(ValueError, match=r"MODEL.RPN.IN_FEATURES.*'p7'.*\['p5', 'p6'\]"):
        select_features({"p5": None, "p6": None}, ["p7"], "MODEL.RPN.IN_FEATURES")


def test_what_is_no_backbone_is_refused():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "not_a_backbone"
    try:
        BACKBONE_REGISTRY.register(
            type("not_a_backbone", (torch.nn.Identity,), {"__init__": torch.nn.Identity.__init__})
        )
        with pytest.raises(TypeError, match=r"not_a_backbone.*inherit"):
            build_backbone(cfg)
    finally:
        BACKBONE_REGISTRY._obj_map.pop("not_a_backbone")
