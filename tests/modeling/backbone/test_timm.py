"""The adapter for timm: several families, names, layout, freezing, whole detectors, errors."""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from d2lite.config import CfgNode, get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_backbone, build_model
from d2lite.modeling.backbone.timm import TimmBackbone
from tests.modeling.tiny import image, target

timm = pytest.importorskip("timm")

CONFIGS = Path(__file__).parents[3] / "configs" / "timm"
ALL = ["res1", "res2", "res3", "res4", "res5"]


@pytest.mark.parametrize(
    "name, features",
    [
        ("resnet10t", ALL),
        ("regnetx_002", ALL),
        ("mobilenetv3_small_050", ALL),
        ("efficientnet_lite0", ALL),
        ("convnext_atto", ALL[1:]),
        ("maxvit_rmlp_pico_rw_256", ALL),  # only takes multiples of 256 by itself
        ("swin_tiny_patch4_window7_224", ALL[1:]),  # gives channels last, at one size by itself
        ("vit_tiny_patch16_224", ["res4"]),  # three features of one stride
    ],
)
@torch.no_grad()
def test_families_give_what_they_announce(name: str, features: list[str]):
    net = TimmBackbone(name).eval()
    shapes = net.output_shape()
    assert list(shapes) == features
    out = net(torch.randn(1, 3, 64, 96))
    assert list(out) == features
    for feature, shape in shapes.items():
        assert shape.stride == 2 ** int(feature[3:])
        assert out[feature].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


@torch.no_grad()
def test_features_are_those_of_timm():
    ours = TimmBackbone("resnet10t", out_indices=(1, 3)).eval()
    theirs = timm.create_model("resnet10t", features_only=True).eval()
    weights = {f"net.{k}": v for k, v in theirs.state_dict().items() if "layer4" not in k}
    ours.load_state_dict(weights)
    x = torch.randn(1, 3, 64, 128)  # as wide at stride 2 as it has channels there
    expected = theirs(x)
    got = ours(x)
    assert list(got) == ["res2", "res4"]
    torch.testing.assert_close(got["res2"], expected[1])
    torch.testing.assert_close(got["res4"], expected[3])


@torch.no_grad()
def test_images_are_padded_to_whole_windows():
    backbone = TimmBackbone("maxvit_rmlp_pico_rw_256").eval()
    x = torch.randn(1, 3, 96, 64)
    padded = backbone.net(F.pad(x, (0, 192, 0, 160)))
    for got, expected in zip(backbone(x).values(), padded, strict=True):
        h, w = got.shape[2:]
        torch.testing.assert_close(got, expected[:, :, :h, :w])


def test_images_may_have_other_channels():
    net = TimmBackbone("resnet10t", in_chans=1, out_indices=(2,))
    assert net(torch.randn(1, 1, 32, 32))["res3"].shape == (1, 128, 4, 4)


def frozen(net: nn.Module) -> set[str]:
    return {name.split(".")[1] for name, p in net.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    "name, kwargs, expected",
    [
        ("resnet10t", {"freeze_at": 0}, set()),
        ("resnet10t", {"freeze_at": 1}, {"conv1"}),
        ("resnet10t", {"freeze_at": 2}, {"conv1", "layer1"}),
        # features that are not given count as well
        ("resnet10t", {"freeze_at": 2, "out_indices": (3,)}, {"conv1", "layer1"}),
        ("convnext_atto", {"freeze_at": 1}, {"stem_0", "stem_1"}),
        ("convnext_atto", {"freeze_at": 3}, {"stem_0", "stem_1", "stages_0", "stages_1"}),
    ],
)
def test_freezing_goes_by_stride(name: str, kwargs: dict, expected: set[str]):
    net = TimmBackbone(name, **kwargs)
    assert frozen(net) == expected
    some_bn = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert some_bn == (name == "resnet10t")


def test_freezing_a_vit_keeps_its_blocks():
    net = TimmBackbone("vit_tiny_patch16_224", freeze_at=2)
    names = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert names and not any("blocks" in name for name in names)


@torch.no_grad()
def test_frozen_norms_keep_their_statistics_and_figures():
    plain = TimmBackbone("mobilenetv3_small_050").eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    part = TimmBackbone("mobilenetv3_small_050", freeze_at=3)
    whole = TimmBackbone("mobilenetv3_small_050", norm="FrozenBN")
    x = torch.randn(2, 3, 32, 32)
    expected = plain(x)
    for net in (part, whole):
        # Frozen norms do not count batches.
        unknown = net.load_state_dict(plain.state_dict(), strict=False)
        assert all(k.endswith("num_batches_tracked") for k in unknown.unexpected_keys)
        assert not unknown.missing_keys
        torch.testing.assert_close(net.eval()(x), expected)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in whole.modules())
    torch.testing.assert_close(whole.train()(x), expected)
    torch.testing.assert_close(part.train()(x)["res3"], expected["res3"])
    assert not torch.allclose(part(x)["res5"], expected["res5"])


def test_norms_can_be_synchronized():
    net = TimmBackbone("resnet10t", norm="SyncBN", out_indices=(1,))
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)


def timm_config(name: str, **settings) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    for key, value in settings.items():
        cfg.MODEL.TIMM_MODEL[key] = value
    return cfg


def test_config_alone_builds_a_backbone():
    cfg = timm_config("build_timm_model_backbone", NAME="resnet10t", OUT_INDICES=[2, 3])
    net = build_backbone(cfg)
    assert net.output_shape() == {
        "res3": ShapeSpec(channels=128, stride=8),
        "res4": ShapeSpec(channels=256, stride=16),
    }


def small(config: str, name: str) -> CfgNode:
    """A config of `configs/timm` with a small backbone and small heads."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / config))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.TIMM_MODEL.NAME = name
    cfg.MODEL.TIMM_MODEL.PRETRAINED = False
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    return cfg


@pytest.mark.parametrize(
    "config, name, levels",
    [
        ("faster_rcnn_convnext_tiny_FPN_1x.yaml", "convnext_atto", ["p2", "p3", "p4", "p5", "p6"]),
        (
            "retinanet_mobilenetv3_large_FPN_1x.yaml",
            "mobilenetv3_small_050",
            ["p3", "p4", "p5", "p6", "p7"],
        ),
    ],
)
def test_detectors_train_and_detect(config: str, name: str, levels: list[str]):
    model = build_model(small(config, name))
    assert list(model.backbone.output_shape()) == levels
    losses = model.train()([{"image": image(), "instances": target()}])
    sum(losses.values()).backward()
    trained = [p for p in model.backbone.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    with torch.no_grad():
        (result,) = model.eval()([{"image": image()}])
    assert result["instances"].image_size == (48, 64)


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_configs_suit_their_weights(config: str, caplog, monkeypatch):
    cfg = small(config, "resnet10t")
    cfg.MODEL.TIMM_MODEL.PRETRAINED = True
    create, asked = timm.create_model, []

    def without_download(name, pretrained, **kwargs):
        asked.append(pretrained)
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", without_download)
    with caplog.at_level(logging.WARNING, logger="d2lite"):
        build_backbone(cfg)
        assert asked[-1] is True and not caplog.records
        cfg.INPUT.FORMAT = "BGR"
        build_backbone(cfg)
    assert "INPUT.FORMAT RGB" in caplog.text and "[123.675, 116.28, 103.53]" in caplog.text


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        ("resnet10tt", {}, r"MODEL.TIMM_MODEL.NAME is 'resnet10tt'.*resnet10t"),
        ("resnet10t", {"out_indices": (7,)}, r"MODEL.TIMM_MODEL.OUT_INDICES \[7\]"),
        ("resnet10t", {"norm": "BN"}, "'BN'.*FrozenBN"),
        ("vit_tiny_patch16_224", {"out_indices": (3, 5)}, r"\[16, 16\].*one of each"),
        ("hrnet_w18_small", {"freeze_at": 2}, "FREEZE_AT 0"),
        ("crossvit_9_240", {}, "stride 12.*powers of 2"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(name: str, kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        TimmBackbone(name, **kwargs)
    assert "\n" not in str(error.value)


def test_fpn_lists_the_features_there_are():
    cfg = timm_config("build_timm_model_fpn_backbone", NAME="resnet10t")
    cfg.MODEL.FPN.IN_FEATURES = ["layer2"]
    with pytest.raises(ValueError, match=r"MODEL.FPN.IN_FEATURES.*'layer2'.*res3"):
        build_backbone(cfg)


def test_retinanet_needs_res5():
    cfg = timm_config(
        "build_retinanet_timm_model_fpn_backbone", NAME="resnet10t", OUT_INDICES=[2, 3]
    )
    with pytest.raises(ValueError, match="res5"):
        build_backbone(cfg)


def test_missing_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'd2lite\[timm\]'"):
        TimmBackbone("resnet10t")


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_weights_of_a_hub_run_no_code(tmp_path, monkeypatch):
    """Older releases of timm load pickles with weights_only=False."""
    file, written = tmp_path / "pytorch_model.bin", tmp_path / "written"
    torch.save(Evil(written), file)

    def create(*_, **__):
        return torch.load(file, weights_only=False)

    monkeypatch.setattr(timm, "create_model", create)
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    with pytest.raises(ValueError, match="timm cannot build 'hf-hub:somebody/net'"):
        TimmBackbone("hf-hub:somebody/net", pretrained=True)
    assert not written.exists()
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before
