"""DeepLab: the schedule, the losses and the dilated backbone by hand; it learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.data import transforms as T
from d2lite.data.dataset_mapper import build_dataset_mapper
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_backbone, build_model
from d2lite.projects.deeplab import (
    DeepLabCE,
    DeepLabStem,
    DeepLabV3PlusHead,
    WarmupPolyLR,
    add_deeplab_config,
    build_lr_scheduler,
)
from d2lite.projects.deeplab.loss import MeanCrossEntropy, build_sem_seg_loss
from d2lite.solver import LRMultiplier
from tests.project_checks import project_config, train_on

PROJECT = Path(__file__).parents[1]
SMALL = PROJECT / "configs/shapes_deeplab_v3_plus.yaml"


def load_config(*opts, path=SMALL):
    return project_config(path, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5, *opts)


def rates(count: int, **kwargs) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupPolyLR(optimizer, **kwargs)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_poly_schedule_by_hand():
    got = rates(11, max_iters=10, warmup_factor=0.5, warmup_iters=2, power=2.0)
    warmup = [0.5, 0.75] + [1.0] * 9
    assert got == pytest.approx([2 * w * (1 - i / 10) ** 2 for i, w in enumerate(warmup)])
    assert got[10] == 0


def test_poly_schedule_stops_falling_at_the_constant_ending():
    got = rates(5, max_iters=4, warmup_factor=0.1, warmup_iters=1, power=1.0, constant_ending=0.4)
    assert got == pytest.approx([0.2, 1.5, 1.0, 0.8, 0.8])


def test_schedules_of_the_core_are_built_too():
    cfg = load_config("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert isinstance(build_lr_scheduler(cfg, optimizer), LRMultiplier)
    assert isinstance(build_lr_scheduler(load_config(), optimizer), WarmupPolyLR)


# Two classes; the loss of a pixel whose logits are (0, log n) and label 0 is log(1 + n).
LOGITS = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 0]).view(1, 2, 1, 4) + torch.tensor(
    [0.0, 0, 0, 0, math.log(1), math.log(3), math.log(7), math.log(15)]
).view(1, 2, 1, 4)
LABELS = torch.zeros(1, 1, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    "share, labels, weights, expected",
    [
        (1.0, [0, 0, 0, 0], None, (1 + 2 + 3 + 4) / 4),
        (0.5, [0, 0, 0, 0], None, (3 + 4) / 2),
        (0.25, [0, 0, 0, 255], None, 3),
        (1.0, [0, 0, 0, 255], None, (1 + 2 + 3) / 4),  # an ignored pixel counts, with loss 0
        (0.5, [0, 0, 0, 0], [1, 3, 1, 1], (6 + 4) / 2),
        (0.01, [0, 0, 0, 0], None, 4),  # at least one pixel
    ],
)
def test_hard_pixel_mining_worked_by_hand(share, labels, weights, expected):
    loss = DeepLabCE(ignore_label=255, top_k_percent_pixels=share)
    weights = weights and torch.tensor(weights).view(1, 1, 4)
    got = loss(LOGITS, torch.tensor(labels).view(1, 1, 4), weights)
    assert got.item() == pytest.approx(expected * math.log(2))


def test_mean_cross_entropy_leaves_ignored_pixels_out():
    loss = build_sem_seg_loss("cross_entropy", ignore_value=255)
    assert isinstance(loss, MeanCrossEntropy)
    labels = torch.tensor([0, 0, 0, 255]).view(1, 1, 4)
    assert loss(LOGITS, labels).item() == pytest.approx(2 * math.log(2))
    assert loss(LOGITS, labels, torch.tensor([3.0, 0, 1, 1]).view(1, 1, 4)).item() == (
        pytest.approx(2 * math.log(2))
    )
    assert loss(LOGITS, torch.full((1, 1, 4), 255)).item() == 0


def test_unknown_losses_and_shares_are_named():
    with pytest.raises(ValueError, match=r"LOSS_TYPE is 'dice'; use 'cross_entropy'"):
        build_sem_seg_loss("dice", 255)
    with pytest.raises(ValueError, match=r"top_k_percent_pixels is 20 .*LOSS_TOP_K"):
        DeepLabCE(top_k_percent_pixels=20)


@pytest.mark.parametrize(
    "res4, res5, strides, last_dilations",
    [
        (1, 1, [4, 8, 16, 32], [1, 2, 4]),
        (1, 2, [4, 8, 16, 16], [2, 4, 8]),
        (2, 4, [4, 8, 8, 8], [4, 8, 16]),
    ],
)
def test_dilation_replaces_stride(res4, res5, strides, last_dilations):
    cfg = load_config("MODEL.RESNETS.RES4_DILATION", res4, "MODEL.RESNETS.RES5_DILATION", res5)
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    with torch.device("meta"):
        net = build_backbone(cfg)
        features = net(torch.zeros(1, 3, 64, 64))
    assert [net.output_shape()[name].stride for name in features] == strides
    assert [64 // x.shape[-1] for x in features.values()] == strides
    assert [block.conv2.dilation[0] for block in net.res5] == last_dilations
    assert {block.conv2.dilation[0] for block in net.res4} == {res4}
    assert isinstance(net.stem, DeepLabStem)


@torch.no_grad()
def test_stem_equals_its_formula():
    torch.manual_seed(0)
    stem, x = DeepLabStem(3, 8, norm=""), torch.randn(1, 3, 13, 17)
    y = torch.relu(nn.functional.conv2d(x, stem.conv1.weight, stride=2, padding=1))
    for conv in (stem.conv2, stem.conv3):
        y = torch.relu(nn.functional.conv2d(y, conv.weight, padding=1))
    torch.testing.assert_close(stem(x), nn.functional.max_pool2d(y, 3, 2, 1))
    assert [c.out_channels for c in (stem.conv1, stem.conv2, stem.conv3)] == [4, 4, 8]


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.RESNETS.STEM_TYPE", "deep", r"STEM_TYPE is 'deep'; use one of \['basic', 'deepl"),
        ("MODEL.RESNETS.RES4_DILATION", 2, r"RES5_DILATION are 2 and 2; use .* 2 and 4"),
        ("MODEL.RESNETS.RES5_MULTI_GRID", [1, 2], r"MULTI_GRID is \[1, 2\]; give 3 numbers"),
        ("MODEL.RESNETS.DEPTH", 18, r"MODEL\.RESNETS\.DEPTH is 18; .* use 50, 101 or 152"),
        ("MODEL.RESNETS.OUT_FEATURES", ["stem"], r"OUT_FEATURES is \['stem'\]; use one or more"),
        ("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8, 8], r"need 1 project_channels and 2"),
        ("MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3Head", r"DeepLabV3Head takes one feature"),
        ("INPUT.CROP.TYPE", "relative", r"INPUT\.CROP\.TYPE is 'relative'; .* use 'absolute'"),
        ("INPUT.CROP.SIZE", [96, 100], r"SIZE is \(96, 100\); both must be multiples of 16"),
    ],
)
def test_wrong_settings_name_their_key(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(load_config(key, value))


def test_channels_of_the_one_feature_must_agree():
    opts = ["MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3Head", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"]]
    with pytest.raises(ValueError, match="CONVS_DIM is 16 and ASPP_CHANNELS 32"):
        build_model(load_config(*opts, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 16))


def test_head_without_classes_is_a_decoder():
    shapes = {"res5": ShapeSpec(channels=8, stride=16), "res2": ShapeSpec(channels=4, stride=4)}
    head = DeepLabV3PlusHead(
        shapes,
        project_channels=[2],
        aspp_dilations=[1, 2, 3],
        aspp_dropout=0.0,
        decoder_channels=[6, 4],
        common_stride=4,
        norm="",
        train_size=None,
    )
    assert head.in_features == ["res2", "res5"]  # by stride
    features = {"res2": torch.zeros(1, 4, 8, 8), "res5": torch.zeros(1, 8, 2, 2)}
    assert head(features).shape == (1, 6, 8, 8)
    assert not hasattr(head, "predictor")


V3 = [
    *("MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3Head", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"]),
    *("MODEL.RESNETS.OUT_FEATURES", ["res5"], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 16),
]
SEPARABLE = ["MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", True]


@pytest.mark.parametrize("opts", [[], V3, SEPARABLE], ids=["v3+", "v3", "separable"])
def test_loss_falls_and_every_parameter_learns(opts):
    torch.manual_seed(0)
    cfg = load_config(*opts, "INPUT.CROP.SIZE", [32, 32], "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT", 0.0)
    model = build_model(cfg).train()
    labels = torch.zeros(32, 32, dtype=torch.int64)
    labels[:, 16:] = 3
    labels[:4] = 255
    images = [{"image": torch.rand(3, 32, 32) * 255, "sem_seg": labels} for _ in range(2)]
    images[1] = {**images[1], "sem_seg": torch.full_like(labels, 255)}  # nothing is labeled
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    assert len(model(images)) == 1
    losses = train_on(model, images, optimizer, 8)
    assert losses[-1] < losses[0]
    assert all(math.isfinite(loss) for loss in losses)
    # A bias before a batch norm would have no effect: there is none.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        (result,) = model.eval()([{"image": images[0]["image"], "height": 40, "width": 50}])
    assert result["sem_seg"].shape == (5, 40, 50)


def test_training_crops_after_resizing_and_avoids_single_classes():
    cfg = load_config("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", 0.75)
    resize, crop, flip = build_dataset_mapper(cfg, is_train=True).augmentations.augs
    assert resize.short_edge_length == (112, 128, 144) and flip.horizontal
    assert (crop.single_category_max_area, crop.ignored_category) == (0.75, 255)
    labels = np.zeros((96, 400), dtype=np.uint8)
    labels[:, 200:] = 1
    np.random.seed(0)
    shares = []
    for _ in range(20):
        sample = T.AugInput(np.zeros((96, 400, 3), np.uint8), sem_seg=labels)
        crop(sample)
        assert sample.sem_seg.shape == (96, 96)
        shares.append(max((sample.sem_seg == k).mean() for k in (0, 1)))
    # Of all places, 16% would do; of ten tried, mostly one does.
    assert np.mean([share < 0.75 for share in shares]) > 0.6


def test_add_config_leaves_other_settings_alone():
    cfg, plain = get_cfg(), get_cfg()
    add_deeplab_config(cfg)
    assert cfg.SOLVER.LR_SCHEDULER_NAME == plain.SOLVER.LR_SCHEDULER_NAME
