"""ResNet: stages, freezing and settings that do not fit."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import FrozenBatchNorm2d, ShapeSpec
from d2lite.modeling.backbone import ResNet, build_backbone, build_resnet_backbone
from d2lite.modeling.backbone.resnet import BasicBlock, BasicStem, make_stage

IMAGE = ShapeSpec(channels=3)


def tiny_resnet(**kwargs) -> ResNet:
    """Stages res2 and res3 of one basic block each."""
    stages = [
        ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=4),
        ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=8, stride=2),
    ]
    return ResNet(BasicStem(3, 4), stages, **kwargs)


def test_features_have_the_promised_shapes():
    model = tiny_resnet(out_features=["stem", "res2", "res3"])
    features = model(torch.zeros(2, 3, 32, 64))
    for name, shape in model.output_shape().items():
        assert features[name].shape == (2, shape.channels, 32 // shape.stride, 64 // shape.stride)
    assert [s.stride for s in model.output_shape().values()] == [4, 4, 8]


def test_stages_after_the_last_feature_are_not_built():
    assert not hasattr(tiny_resnet(out_features=["res2"]), "res3")


def test_classifier_gives_one_logit_per_class():
    model = tiny_resnet(num_classes=5)
    assert model(torch.zeros(2, 3, 32, 32))["linear"].shape == (2, 5)
    assert model.output_shape()["linear"].channels == 5


def test_freezing_stops_parameters_and_freezes_norms():
    model = tiny_resnet(freeze_at=2)
    frozen = {k.split(".")[0] for k, p in model.named_parameters() if not p.requires_grad}
    trained = {k.split(".")[0] for k, p in model.named_parameters() if p.requires_grad}
    assert (frozen, trained) == ({"stem", "res2"}, {"res3"})
    assert isinstance(model.stem.conv1.norm, FrozenBatchNorm2d)
    assert not isinstance(model.res3[0].conv1.norm, FrozenBatchNorm2d)


def test_arguments_can_differ_by_block():
    blocks = make_stage(
        BasicBlock, 3, stride_per_block=[2, 1, 1], in_channels=4, out_channels=4, norm=""
    )
    assert [block.stride for block in blocks] == [2, 1, 1]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"stride_per_block": [1, 2]}, "stride_per_block has 2 values for 3 blocks"),
        ({"stride_per_block": [1, 1, 1], "stride": 1}, r"given both.*stride"),
    ],
)
def test_bad_arguments_by_block(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make_stage(BasicBlock, 3, in_channels=4, out_channels=4, **kwargs)


@pytest.mark.parametrize("depth, blocks", [(18, 8), (34, 16), (50, 16), (101, 33), (152, 50)])
def test_default_stages_have_the_blocks_of_the_paper(depth: int, blocks: int):
    with torch.device("meta"):
        stages = ResNet.make_default_stages(depth, norm="")
    assert sum(len(stage) for stage in stages) == blocks
    assert stages[3][-1].out_channels == (512 if depth < 50 else 2048)


def test_images_must_have_four_axes():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        tiny_resnet()(torch.zeros(3, 32, 32))


@pytest.mark.parametrize(
    "changes, message",
    [
        (["DEPTH", 51], r"MODEL.RESNETS.DEPTH is 51.*\[18, 34, 50, 101, 152\]"),
        (["DEPTH", 18], "DEPTH 18 needs MODEL.RESNETS.RES2_OUT_CHANNELS 64; it is 256"),
        (["DEPTH", 34, "RES2_OUT_CHANNELS", 64, "RES5_DILATION", 2], "RES5_DILATION 1; it is 2"),
        (["RES5_DILATION", 3], "RES5_DILATION is 3"),
        (["OUT_FEATURES", ["res6"]], "MODEL.RESNETS.OUT_FEATURES is .*'res6'.*'res5'"),
        (["DEFORM_ON_PER_STAGE", [True]], "DEFORM_ON_PER_STAGE needs four"),
    ],
)
def test_bad_settings_name_their_key(changes: list, message: str):
    cfg = get_cfg()
    names = [f"MODEL.RESNETS.{x}" if i % 2 == 0 else x for i, x in enumerate(changes)]
    cfg.merge_from_list(names)
    with pytest.raises(ValueError, match=message):
        build_resnet_backbone(cfg, IMAGE)


def test_resnet18_gives_the_strides_and_widths_of_the_paper():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    with torch.device("meta"):
        shapes = build_backbone(cfg).output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [
        (64, 4),
        (128, 8),
        (256, 16),
        (512, 32),
    ]


def test_dilation_keeps_the_stride_of_res4():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    assert {s.stride for s in backbone.output_shape().values()} == {16}
    assert all(block.conv2.dilation == (2, 2) for block in backbone.res5)
