"""MobileNet backbones against torchvision's own networks on equal random weights."""

import pytest
import torch
from torch import nn
from torchvision import models

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.layers import FrozenBatchNorm2d, ShapeSpec
from d2lite.modeling import build_backbone
from d2lite.projects.mobilenet import MobileNet, add_mobilenet_config

ARCHITECTURES = {
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_large": models.mobilenet_v3_large,
    "mobilenet_v3_small": models.mobilenet_v3_small,
}


def torchvision_net(arch: str, width_mult: float = 1.0) -> nn.Module:
    """With statistics that differ from channel to channel, so that norms matter."""
    torch.manual_seed(0)
    net = ARCHITECTURES[arch](width_mult=width_mult).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_mobilenet_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_mobilenet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    return cfg


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_features_equal_torchvision(arch, norm):
    theirs = torchvision_net(arch)
    names = ["res1", "res2", "res3", "res4", "res5", "last"]
    ours = MobileNet(arch, out_features=names, norm=norm).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("classifier")}
    missing = ours.load_state_dict(weights, strict=False)
    assert not [k for k in missing.missing_keys if not k.endswith("num_batches_tracked")]
    assert not [k for k in missing.unexpected_keys if not k.endswith("num_batches_tracked")]
    image = torch.randn(1, 3, 64, 96)
    features = ours(image)

    expected = {}
    x = image
    for layer in theirs.features[:-1]:
        x = layer(x)
        expected[f"res{(64 // x.shape[2]).bit_length() - 1}"] = x
    expected["last"] = theirs.features(image)
    assert list(features) == names
    for name, shape in ours.output_shape().items():
        torch.testing.assert_close(features[name], expected[name], rtol=1e-4, atol=1e-5)
        assert features[name].shape[1] == shape.channels
        assert features[name].shape[2] * shape.stride == 64


def test_channels_of_v2():
    """Table 2 of the paper."""
    shapes = MobileNet(out_features=["res1", "res2", "res3", "res4", "res5", "last"]).output_shape()
    assert [s.channels for s in shapes.values()] == [16, 24, 32, 96, 320, 1280]
    assert [s.stride for s in shapes.values()] == [2, 4, 8, 16, 32, 32]


def test_freezing_stops_at_the_stage():
    net = MobileNet(width_mult=0.25, freeze_at=3)
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in net.features]
    assert trained == [False] * 7 + [True] * 12  # stride 16 starts at layer 7
    norms = [any(isinstance(m, nn.BatchNorm2d) for m in layer.modules()) for layer in net.features]
    assert norms == trained
    assert any(isinstance(m, FrozenBatchNorm2d) for m in net.features[6].modules())
    assert all(p.requires_grad for p in MobileNet(width_mult=0.25).parameters())


def test_classifier_checkpoint_fits_by_its_endings(cfg, tmp_path):
    """Under a pyramid too, where the network is called backbone.bottom_up."""
    theirs = torchvision_net("mobilenet_v2", 0.25)
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    cfg.MODEL.BACKBONE.NAME = "build_mobilenet_fpn_backbone"
    cfg.MODEL.MOBILENET.WIDTH_MULT = 0.25
    cfg.MODEL.MOBILENET.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    model = nn.ModuleDict({"backbone": build_backbone(cfg)})
    DetectionCheckpointer(model).load(f"{tmp_path}/classifier.pth?matching_heuristics=True")
    loaded = model["backbone"].bottom_up.state_dict()
    for name, value in theirs.state_dict().items():
        if name.startswith("features"):
            torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)


def test_pyramid_gives_p2_to_p6(cfg):
    cfg.MODEL.BACKBONE.NAME = "build_mobilenet_fpn_backbone"
    cfg.MODEL.MOBILENET.WIDTH_MULT = 0.25
    cfg.MODEL.MOBILENET.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    features = build_backbone(cfg)(torch.zeros(1, 3, 64, 64))
    sizes = {name: tuple(x.shape[1:]) for name, x in features.items()}
    expected = {f"p{k}": (8, 64 >> k, 64 >> k) for k in range(2, 7)}
    assert sizes == expected


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"arch": "mobilenet_v3"}, "ARCH.*Did you mean"),
        ({"norm": "FBN"}, "MODEL.MOBILENET.NORM is 'FBN'"),
        ({"out_features": ["res6"]}, "OUT_FEATURES has 'res6'"),
    ],
)
def test_unknown_names_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        MobileNet(**settings)


def test_other_than_three_channels_is_an_error(cfg):
    with pytest.raises(ValueError, match=r"3 channels.*has 1"):
        build_backbone(cfg, ShapeSpec(channels=1))
