"""DetNet, its pyramid and heads: shapes, loading, pooling; training, resuming and evaluation."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.ops import roi_align

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.layers import ShapeSpec
from d2lite.modeling import Backbone, build_backbone, build_model
from d2lite.projects.detnet import DetNet, DetNetFPN, DilatedBottleneckBlock
from d2lite.structures import Boxes
from tests.project_checks import (
    batch,
    check_detections,
    check_every_weight_learns,
    check_resumes_exactly,
    few_images,
    project_config,
    train_on,
    truth,
)

CONFIGS = Path(__file__).parents[1] / "configs"
NARROW = [
    *("MODEL.DETNET.NUM_BLOCKS", [1, 1, 1, 2, 1], "MODEL.DETNET.STEM_OUT_CHANNELS", 8),
    *("MODEL.DETNET.RES2_OUT_CHANNELS", 16, "MODEL.DETNET.RES2_BOTTLENECK_CHANNELS", 8),
    *("MODEL.DETNET.DILATED_OUT_CHANNELS", 64, "MODEL.DETNET.DILATED_BOTTLENECK_CHANNELS", 32),
    *("MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RPN.CONV_DIMS", [16]),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 3),
]
FEATURES = ["stem", "res2", "res3", "res4", "res5", "res6"]


def load_config(name: str, *opts):
    return project_config(CONFIGS / name, *opts)


def small_model(name: str = "shapes_FPN.yaml", *opts) -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_config(name, *NARROW, *opts))


def test_detnet59_has_the_shapes_of_the_paper():
    """Fig. 1 and 2, table 1: stride 16 and 1024 channels from stage 4 to stage 6; 59 layers."""
    with torch.device("meta"):
        net = DetNet(num_classes=1000, out_features=[*FEATURES, "linear"])
        features = net(torch.zeros(1, 3, 64, 96))
    shapes = {name: tuple(x.shape[1:]) for name, x in features.items()}
    assert shapes.pop("linear") == (1000,)
    assert shapes == {
        "stem": (64, 16, 24),
        "res2": (256, 16, 24),
        "res3": (512, 8, 12),
        **dict.fromkeys(("res4", "res5", "res6"), (1024, 4, 6)),
    }
    said = net.output_shape()
    assert all(said[name].channels == channels for name, (channels, _, _) in shapes.items())
    assert [said[name].stride for name in FEATURES] == [4, 4, 8, 16, 16, 16]
    layers = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 59
    assert net.linear.in_features == 1024


def test_blocks_b_project_and_blocks_a_do_not():
    net = DetNet(res2_channels=16, res2_bottleneck_channels=8, stem_channels=8, dilated_channels=64)
    for stage in (net.res5, net.res6):
        assert [block.shortcut is not None for block in stage] == [True, False, False]
        assert {block.conv2.dilation for block in stage} == {(2, 2)}
        assert {block.conv2.out_channels for block in stage} == {256}


@torch.no_grad()
def test_dilated_block_equals_its_formula():
    torch.manual_seed(0)
    x = torch.randn(1, 6, 9, 7)
    for project in (True, False):
        block = DilatedBottleneckBlock(6, 6, bottleneck_channels=4, project=project, norm="")
        y = torch.relu(nn.functional.conv2d(x, block.conv1.weight))
        y = torch.relu(nn.functional.conv2d(y, block.conv2.weight, padding=2, dilation=2))
        y = nn.functional.conv2d(y, block.conv3.weight)
        shortcut = nn.functional.conv2d(x, block.shortcut.weight) if project else x
        torch.testing.assert_close(block(x), torch.relu(y + shortcut))


def test_freezing_stops_at_the_stage():
    net = DetNet(stem_channels=8, res2_channels=16, res2_bottleneck_channels=8, freeze_at=3)
    trained = [
        any(p.requires_grad for p in net.get_submodule(name).parameters()) for name in FEATURES
    ]
    assert trained == [False] * 3 + [True] * 3


class Maps(Backbone):
    """Gives the features that it was made with."""

    def __init__(self, features, strides):
        super().__init__()
        self.features = features
        self._out_features = list(features)
        self._out_feature_channels = {name: x.shape[1] for name, x in features.items()}
        self._out_feature_strides = dict(zip(features, strides, strict=True))

    def forward(self, x):
        return self.features


@torch.no_grad()
@pytest.mark.parametrize("fuse_type, share", [("sum", 1.0), ("avg", 0.5)])
def test_pyramid_adds_as_it_is_where_strides_are_equal(fuse_type, share):
    torch.manual_seed(0)
    sizes = {"res3": 8, "res4": 4, "res5": 4, "res6": 4}
    maps = {name: torch.randn(1, 3, side, side) for name, side in sizes.items()}
    fpn = DetNetFPN(Maps(maps, [8, 16, 16, 16]), list(maps), 3, fuse_type=fuse_type)
    for name, module in fpn.named_children():
        if name.startswith("fpn_"):  # each convolution gives what it takes
            nn.init.dirac_(module.weight)
    levels = fpn(torch.zeros(1, 3, 64, 64))
    assert list(levels) == ["p3", "p4", "p5", "p6"]
    torch.testing.assert_close(levels["p6"], maps["res6"])
    torch.testing.assert_close(levels["p5"], share * (maps["res5"] + levels["p6"]))
    torch.testing.assert_close(levels["p4"], share * (maps["res4"] + levels["p5"]))
    doubled = levels["p4"].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(levels["p3"], share * (maps["res3"] + doubled))


def test_pyramid_of_a_detnet():
    fpn = build_backbone(load_config("shapes_FPN.yaml", *NARROW))
    assert list(fpn.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    assert [shape.stride for shape in fpn.output_shape().values()] == [4, 8, 16, 16, 16]
    assert fpn.size_divisibility == 16
    features = fpn(torch.zeros(1, 3, 48, 64))
    for name, shape in fpn.output_shape().items():
        assert features[name].shape == (1, 16, 48 // shape.stride, 64 // shape.stride)


@torch.no_grad()
def test_boxes_are_pooled_by_size_from_levels_of_equal_stride():
    """448 pixels belong to p5, as in FPN, and p5 here has the stride of p4."""
    heads = small_model("shapes_FPN.yaml", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2).roi_heads
    generator = torch.Generator().manual_seed(0)
    strides = [4, 8, 16, 16]
    features = [torch.randn(1, 16, 640 // s, 640 // s, generator=generator) for s in strides]
    boxes = torch.tensor(
        [[10.0, 20, 70, 90], [5.0, 5, 140, 150], [0.0, 30, 300, 290], [30.0, 10, 600, 620]]
    )
    found = heads.box_pooler(features, [Boxes(boxes)])
    for i, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        expected = roi_align(feature, [boxes[i : i + 1]], 7, 1 / stride, 2, aligned=True)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_says_what_the_model_is(path):
    cfg = load_config(path.name, "MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.DEVICE", "meta")
    assert list(cfg.PROJECTS) == ["detnet"]
    with torch.device("meta"):
        model = build_model(cfg)
    assert isinstance(model.backbone, DetNetFPN)
    assert model.roi_heads.box_pooler.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 16]
    assert model.roi_heads.mask_on == ("mask" in path.stem)
    assert model.proposal_generator.anchor_generator.strides == [4, 8, 16, 16, 16]


@pytest.fixture(scope="module")
def resnet_weights():
    return resnet50().state_dict()


@pytest.fixture(scope="module")
def detnet59():
    net = DetNet(out_features=["res6"])
    for parameter in net.parameters():
        nn.init.constant_(parameter, 7.0)
    return nn.ModuleDict({"backbone": nn.ModuleDict({"bottom_up": net})})


def test_resnet_weights_fit_up_to_res4_and_the_rest_is_told(
    detnet59, resnet_weights, tmp_path, caplog
):
    torch.save(resnet_weights, tmp_path / "resnet50.pth")
    with caplog.at_level(logging.INFO):
        DetectionCheckpointer(detnet59).load(str(tmp_path / "resnet50.pth"))
    net = detnet59["backbone"]["bottom_up"]
    pairs = {
        "stem.conv1.weight": "conv1.weight",
        "stem.conv1.norm.running_var": "bn1.running_var",
        "res2.0.shortcut.weight": "layer1.0.downsample.0.weight",
        "res3.3.conv2.weight": "layer2.3.conv2.weight",
        "res4.5.conv3.norm.bias": "layer3.5.bn3.bias",
    }
    state = net.state_dict()
    for own, theirs in pairs.items():
        assert torch.equal(state[own], resnet_weights[theirs]), own
    up_to_res4 = [n for n, _ in net.named_parameters() if n.startswith(("stem", *FEATURES[1:4]))]
    assert not [name for name in up_to_res4 if (state[name] == 7.0).all()]
    assert len(up_to_res4) == 3 * (1 + 3 * 13 + 3)  # weight, norm's weight and bias of each layer
    behind = [n for n, _ in net.named_parameters() if n.startswith(("res5", "res6"))]
    assert all((state[name] == 7.0).all() for name in behind)
    report = caplog.text
    assert "res6" in report and "res5" in report and "keep their initial values" in report


def test_weights_in_the_layout_of_detectron2_report_wrong_shapes(tmp_path, caplog):
    """A small file under the model's own names, of a ResNet whose res5 is wider."""
    narrow = {"stem_channels": 8, "res2_channels": 16, "res2_bottleneck_channels": 8}
    theirs = DetNet(**narrow, dilated_channels=128, dilated_bottleneck_channels=16)
    ours = DetNet(**narrow, dilated_channels=64, dilated_bottleneck_channels=16)
    weights = {
        name: value for name, value in theirs.state_dict().items() if not name.startswith("res6")
    }
    torch.save({"model": weights}, tmp_path / "small.pth")
    with caplog.at_level(logging.INFO):
        DetectionCheckpointer(ours).load(str(tmp_path / "small.pth"))
    state = ours.state_dict()
    for name, value in weights.items():
        if state[name].shape == value.shape:
            assert torch.equal(state[name], value), name
    assert (
        "res5.0.shortcut.weight: (128, 64, 1, 1) in the checkpoint, (64, 64, 1, 1)" in caplog.text
    )
    assert "missing" in caplog.text and "res6" in caplog.text


@pytest.mark.parametrize("config", ["shapes_FPN.yaml", "mask_rcnn_DetNet59_FPN_1x.yaml"])
def test_every_trained_parameter_learns_and_the_loss_falls(config):
    opts = ["MODEL.DETNET.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.DETNET.DILATED_NORM"]
    model = small_model(config, *opts, "GN").train()
    images = batch(truth([[8, 8, 40, 40]], [1]), truth([[30, 20, 70, 60]], [2]))
    if model.roi_heads.mask_on:
        add_masks(images)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    totals = train_on(model, images, optimizer, 4)
    assert totals[-1] < totals[0]
    check_every_weight_learns(model, model.backbone)


def add_masks(images: list[dict]) -> None:
    from d2lite.structures import PolygonMasks

    for image in images:
        x0, y0, x1, y1 = image["instances"].gt_boxes.tensor[0].tolist()
        polygon = torch.tensor([x0, y0, x1, y0, x1, y1, x0, y1]).double().numpy()
        image["instances"].gt_masks = PolygonMasks([[polygon]])


def test_images_without_objects_have_finite_losses():
    model = small_model().train()
    losses = model(batch(truth([], []), truth([], [])))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_detections_are_well_formed():
    model = small_model("shapes_FPN.yaml", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0).eval()
    image = batch(truth([], [], size=(50, 70)))[0]["image"]
    found = model([{"image": image, "height": 100, "width": 140}])[0]["instances"]
    check_detections(found, (100, 140), most=100)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.DETNET.NUM_BLOCKS", [3, 4, 6, 3], r"NUM_BLOCKS is \[3, 4, 6, 3\]; give 5 numbers"),
        ("MODEL.DETNET.NUM_BLOCKS", [1, 1, 1, 1, 0], r"MODEL\.DETNET\.NUM_BLOCKS"),
        ("MODEL.DETNET.DILATION", 0, r"MODEL\.DETNET\.DILATION is 0"),
        ("MODEL.DETNET.OUT_FEATURES", ["res2", "res7"], r"DETNET\.OUT_FEATURES has 'res7'"),
        ("MODEL.DETNET.OUT_FEATURES", [], r"DETNET\.OUT_FEATURES is empty"),
        ("MODEL.FPN.IN_FEATURES", ["res2", "res9"], r"MODEL\.FPN\.IN_FEATURES asks for .*'res9'"),
        ("MODEL.FPN.IN_FEATURES", ["res2", "res4"], r"FPN\.IN_FEATURES .* strides \[4, 16\]"),
        ("MODEL.FPN.IN_FEATURES", [], r"MODEL\.FPN\.IN_FEATURES is empty"),
        ("MODEL.FPN.FUSE_TYPE", "max", r"MODEL\.FPN\.FUSE_TYPE is 'max'"),
    ],
)
def test_wrong_settings_name_their_key(key, value, message):
    cfg = load_config("shapes_FPN.yaml", *NARROW, key, value)
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg, ShapeSpec(channels=3))


@pytest.fixture(scope="module")
def tiny_set():
    with few_images("shapes_val") as name:
        yield name


def tiny_run(output_dir, data):
    return load_config(
        "shapes_FPN.yaml",
        *NARROW,
        *("MODEL.ROI_HEADS.NUM_CLASSES", 6, "OUTPUT_DIR", str(output_dir)),
        *("DATASETS.TRAIN", (data,), "DATASETS.TEST", (data,), "DATALOADER.NUM_WORKERS", 0),
        *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2),
        *("SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 2),
        *("TEST.DRAW_IMAGES", 1, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    )


def test_training_evaluates_draws_and_resumes_exactly(tmp_path, tiny_set):
    results = check_resumes_exactly(tmp_path, lambda folder: tiny_run(folder, tiny_set))
    assert 0 <= results["bbox"]["AP"] <= 100
