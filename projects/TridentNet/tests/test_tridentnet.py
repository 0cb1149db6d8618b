"""TridentNet: branches share weights, differ in dilation, and are merged by NMS."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec, get_norm
from d2lite.modeling import build_model
from d2lite.modeling.backbone.resnet import BottleneckBlock
from d2lite.projects import add_projects
from d2lite.projects.tridentnet import (
    TridentBottleneckBlock,
    TridentConv,
    build_trident_resnet_backbone,
    merge_branch_instances,
)
from d2lite.structures import Boxes, Instances
from tests.project_checks import train_on

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(*opts):
    cfg = get_cfg()
    path = str(CONFIGS / "shapes_R_50_C4.yaml")
    add_projects(cfg, path)
    cfg.merge_from_file(path)
    narrow = [
        *("MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", 3),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    ]
    cfg.merge_from_list([*narrow, *opts])
    return cfg


def test_each_branch_has_its_dilation_and_all_one_weight():
    conv = TridentConv(
        2, 3, 3, paddings=[1, 2], dilations=[1, 2], num_branch=2, bias=True, activation=torch.abs
    )
    conv.bias.data.uniform_()
    inputs = [torch.randn(1, 2, 6, 6), torch.randn(1, 2, 6, 6)]
    wanted = [
        F.conv2d(x, conv.weight, conv.bias, padding=d, dilation=d).abs()
        for x, d in zip(inputs, (1, 2), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(conv(inputs), wanted, strict=True))
    assert [x.shape for x in conv.parameters()] == [(3, 2, 3, 3), (3,)]
    assert "dilations=[1, 2], groups=1, bias=True" in repr(conv)


def test_at_inference_one_branch_is_enough():
    conv = TridentConv(
        1, 1, 3, paddings=[1, 2, 3], dilations=[1, 2, 3], num_branch=3, test_branch_idx=1
    )
    x = torch.randn(1, 1, 8, 8)
    assert len(conv([x, x, x])) == 3
    (got,) = conv.eval()([x])
    assert torch.equal(got, F.conv2d(x, conv.weight, padding=2, dilation=2))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"paddings": [1, 2], "dilations": [1, 2]}, "NUM_BRANCH is 3, but there are 2"),
        ({"test_branch_idx": 3}, "TEST_BRANCH_IDX is 3; use 0 to 2, or -1"),
    ],
)
def test_branches_that_do_not_fit_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        TridentConv(1, 1, 3, num_branch=3, **arguments)


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_a_block_is_a_bottleneck_block_for_each_branch(stride_in_1x1):
    shape = {"bottleneck_channels": 4, "stride": 2, "norm": "BN", "stride_in_1x1": stride_in_1x1}
    block = TridentBottleneckBlock(8, 16, dilations=(1, 2, 3), **shape).eval()
    assert block.conv2.norm.__class__ is get_norm("BN", 4).__class__
    x = torch.randn(2, 8, 12, 12)
    got = block(x)
    for branch, dilation in zip(got, (1, 2, 3), strict=True):
        plain = BottleneckBlock(8, 16, dilation=dilation, **shape).eval()
        plain.load_state_dict(block.state_dict())
        torch.testing.assert_close(branch, plain(x))
    block.concat_output = True
    assert torch.equal(block(x), torch.cat(got))


def test_a_seed_gives_the_weights_of_a_bottleneck_block():
    """Both make and fill their convolutions in one order, so what is built next agrees too."""
    drawn = []
    for kind in (BottleneckBlock, TridentBottleneckBlock):
        torch.manual_seed(3)
        block = kind(8, 16, bottleneck_channels=4)
        drawn.append((block.conv3.weight, block.shortcut.weight, torch.rand(1)))
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_backbone_gives_the_branches_as_one_batch():
    backbone = build_trident_resnet_backbone(load_config(), ShapeSpec(channels=3))
    x = torch.randn(2, 3, 64, 64)
    assert backbone(x)["res4"].shape == (6, 64, 4, 4)
    assert backbone.eval()(x)["res4"].shape == (2, 64, 4, 4)
    slow = load_config("MODEL.TRIDENT.TEST_BRANCH_IDX", -1)
    backbone = build_trident_resnet_backbone(slow, ShapeSpec(channels=3)).eval()
    assert backbone(x)["res4"].shape == (6, 64, 4, 4)
    frozen = load_config("MODEL.BACKBONE.FREEZE_AT", 4)
    backbone = build_trident_resnet_backbone(frozen, ShapeSpec(channels=3))
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.RESNETS.DEPTH", 18], r"DEPTH is 18; .* use 50, 101 or 152"),
        (["MODEL.TRIDENT.TRIDENT_STAGE", "res6"], "TRIDENT_STAGE is 'res6'; use one of"),
        (["MODEL.RESNETS.OUT_FEATURES", ["res7"]], r"OUT_FEATURES is \['res7'\]"),
        (
            ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, False]],
            "res4, which cannot be deformable too",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(opts, message):
    with pytest.raises(ValueError, match=message):
        build_trident_resnet_backbone(load_config(*opts), ShapeSpec(channels=3))


def test_detections_of_all_branches_are_merged_for_each_image():
    def found(*rows):
        boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
        return Instances(
            (50, 50),
            pred_boxes=Boxes(boxes),
            scores=torch.tensor([row[4] for row in rows]),
            pred_classes=torch.tensor([row[5] for row in rows], dtype=torch.int64),
        )

    first = [found((0, 0, 10, 10, 0.8, 0)), found((0, 0, 10, 10, 0.3, 1))]
    second = [found((0, 0, 10, 11, 0.9, 0), (0, 0, 10, 10, 0.7, 1)), found()]
    merged = merge_branch_instances([*first, *second], 2, 0.5, 100)
    # Image 0: two boxes of class 0 overlap; that of class 1 stays. Image 1: just its own.
    assert [x.scores.tolist() for x in merged] == [pytest.approx([0.9, 0.7]), pytest.approx([0.3])]
    assert merge_branch_instances([*first, *second], 2, 0.5, 1)[0].scores.tolist() == [
        pytest.approx(0.9)
    ]
    assert merge_branch_instances(first, 1, 0.5, 1) is first


@pytest.mark.parametrize("test_branch", [1, -1])
def test_losses_fall_and_every_image_has_one_result(test_branch):
    model = build_model(load_config("MODEL.TRIDENT.TEST_BRANCH_IDX", test_branch)).train()
    generator = torch.Generator().manual_seed(0)
    batch = []
    for size in ((64, 80), (72, 64)):
        truth = Instances(size, gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])))
        truth.gt_classes = torch.tensor([1])
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
        batch.append({"image": image, "instances": truth, "height": 33, "width": 44})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    totals = train_on(model, batch, optimizer, 5)
    assert all(map(math.isfinite, totals)) and totals[-1] < totals[0]
    with torch.no_grad():
        results = model.eval()(batch)
    assert [x["instances"].image_size for x in results] == [(33, 44)] * 2


def test_heads_of_res5_take_branches_too():
    cfg = load_config(
        *("MODEL.TRIDENT.TRIDENT_STAGE", "res5", "MODEL.RESNETS.OUT_FEATURES", ["res5"]),
        *("MODEL.RESNETS.RES5_DILATION", 2, "MODEL.TRIDENT.TEST_BRANCH_IDX", -1),
        *("MODEL.ROI_HEADS.NAME", "TridentStandardROIHeads"),
        *("MODEL.ROI_HEADS.IN_FEATURES", ["res5"], "MODEL.RPN.IN_FEATURES", ["res5"]),
        *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
        *("MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    )
    model = build_model(cfg).eval()
    with torch.no_grad():
        assert len(model([{"image": torch.zeros(3, 64, 64)}] * 2)) == 2
