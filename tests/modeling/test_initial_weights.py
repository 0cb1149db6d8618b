"""Under one seed, models start with the weights of detectron2 and leave its next random number."""

import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from d2lite.config import LazyConfig, get_cfg, instantiate
from d2lite.layers import DeformConv, ModulatedDeformConv
from d2lite.modeling import build_model
from d2lite.modeling.backbone import MViT, SwinTransformer, ViT
from d2lite.modeling.backbone.swin import WindowAttention
from tests.golden import REFERENCE
from tests.modeling.test_state_dicts import zoo_configs

CONFIGS = Path(__file__).parents[2] / "configs"


@functools.cache
def reference() -> dict:
    """The stored facts: "configs" point to "outcomes"."""
    with gzip.open(REFERENCE / "initial_weights.json.gz") as file:
        return json.load(file)


def one_config_per_outcome() -> list[str]:
    return list({outcome: name for name, outcome in reference()["configs"].items()}.values())


# All kinds of layers, and among them a C4 model, which builds a stage that it does not keep.
SMALL = [
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "COCO-Detection/rpn_R_50_C4_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
]


def zoo_model(name: str) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list([x for item in zoo_configs()[name].items() for x in item])
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def check_initial_weights(name: str, build: Callable[[], nn.Module]) -> None:
    """Compare first, last and mean of every floating entry of the state dict, in its order."""
    outcome = reference()["outcomes"][reference()["configs"][name]]
    torch.manual_seed(reference()["seed"])
    state = build().state_dict()
    next_random_number = torch.rand(1).item()

    found = {
        key: (x.view(-1)[0].item(), x.view(-1)[-1].item(), x.double().mean().item())
        for key, x in state.items()
        if x.is_floating_point()
    }
    assert list(found) == list(outcome["values"])
    for key, expected in outcome["values"].items():
        assert found[key] == pytest.approx(expected, rel=1e-4, abs=1e-8), key
    assert next_random_number == pytest.approx(outcome["next_random_number"], rel=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_zoo_model_starts_with_the_weights_of_detectron2(name: str):
    check_initial_weights(name, lambda: zoo_model(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", one_config_per_outcome())
def test_every_outcome_of_the_zoo(name: str):
    check_initial_weights(name, lambda: zoo_model(name))


# Cascades and FCOS are missing: a lazy cascade builds its mask head before the box heads.
@pytest.mark.slow
@pytest.mark.parametrize(
    "lazy, name",
    [
        ("mask_rcnn_fpn", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"),
        ("mask_rcnn_c4", "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml"),
        ("keypoint_rcnn_fpn", "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml"),
        ("panoptic_fpn", "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"),
        ("retinanet", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
    ],
)
def test_lazy_configs_give_the_weights_of_their_yaml_twins(lazy: str, name: str):
    config = LazyConfig.load(str(CONFIGS / "common" / "models" / f"{lazy}.py"))
    check_initial_weights(name, lambda: instantiate(config.model))


# The backbones below are in no reference file; what follows is the order in which detectron2's
# constructors draw, written down: layers as torch starts them, then what replaces their weights.


def draw_vit_weights(model: nn.Module) -> None:
    """All linear layers, in the order of registration."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)


@pytest.mark.parametrize("with_positions", [False, True])
def test_vit_draws_positions_after_its_blocks_and_before_their_weights(with_positions: bool):
    sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 8, "num_heads": 2, "depth": 2}
    torch.manual_seed(0)
    model = ViT(**sizes, use_abs_pos=with_positions, pretrain_img_size=32)
    next_random_number = torch.rand(1)

    torch.manual_seed(0)
    patches = nn.Conv2d(3, 8, 16, stride=16)
    for _ in range(2):
        for shape in ((8, 24), (8, 8), (8, 32), (32, 8)):  # qkv, proj, and the MLP
            nn.Linear(*shape)
    if with_positions:
        positions = nn.init.trunc_normal_(torch.empty(1, 5, 8), std=0.02)
        torch.testing.assert_close(model.pos_embed, positions, check_stride=False)
    torch.testing.assert_close(model.patch_embed.proj.weight, patches.weight)
    first = nn.init.trunc_normal_(torch.empty(24, 8), std=0.02)
    torch.testing.assert_close(model.blocks[0].attn.qkv.weight.data, first)
    for shape in ((8, 8), (32, 8), (8, 32), (24, 8), (8, 8), (32, 8), (8, 32)):
        nn.init.trunc_normal_(torch.empty(shape), std=0.02)
    assert torch.equal(next_random_number, torch.rand(1))


def test_mvit_draws_positions_after_its_blocks():
    torch.manual_seed(0)
    model = MViT(
        img_size=32, embed_dim=8, depth=1, last_block_indexes=(0,), use_abs_pos=True,
        pretrain_img_size=32, use_rel_pos=False, out_features=("scale2",),
    )  # fmt: skip
    torch.manual_seed(0)
    nn.Conv2d(3, 8, 7, stride=4)
    nn.Linear(8, 24), nn.Linear(8, 8)
    for _ in range(3):
        nn.Conv2d(8, 8, 3, groups=8, bias=False)
    nn.Linear(8, 32), nn.Linear(32, 8)
    positions = nn.init.trunc_normal_(torch.empty_like(model.pos_embed), std=0.02)
    torch.testing.assert_close(model.pos_embed.data, positions.data)


def test_window_attention_draws_its_bias_table_after_its_layers():
    torch.manual_seed(0)
    attention = WindowAttention(8, (2, 2), num_heads=2)
    torch.manual_seed(0)
    qkv = nn.Linear(8, 24)
    nn.Linear(8, 8)
    table = nn.init.trunc_normal_(torch.empty(9, 2), std=0.02)
    torch.testing.assert_close(attention.relative_position_bias_table.data, table)
    torch.testing.assert_close(attention.qkv.weight, qkv.weight)


@pytest.mark.parametrize("conv_class", [DeformConv, ModulatedDeformConv])
def test_deformable_convolutions_start_as_kaiming_uniform(conv_class: type[nn.Module]):
    torch.manual_seed(0)
    conv = conv_class(4, 6, 3)
    torch.manual_seed(0)
    expected = nn.init.kaiming_uniform_(torch.empty(6, 4, 3, 3), nonlinearity="relu")
    torch.testing.assert_close(conv.weight.data, expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda rate: ViT(
            img_size=32, patch_size=16, embed_dim=8, num_heads=2, depth=3, drop_path_rate=rate
        ),
        lambda rate: SwinTransformer(
            embed_dim=8, depths=(1, 2), num_heads=(1, 2), out_indices=(0, 1), drop_path_rate=rate
        ),
    ],
    ids=["ViT", "Swin"],
)
def test_drop_path_draws_one_number_per_image_and_branch(build):
    rate, images, depth = 0.3, 2, 3
    model = build(rate).train()
    torch.manual_seed(1)
    model(torch.zeros(images, 3, 32, 32))
    next_random_number = torch.rand(1)

    torch.manual_seed(1)
    for block_rate in torch.linspace(0, rate, depth).tolist()[1:]:  # the first drops nothing
        for _ in range(2):  # attention, MLP
            torch.empty(images, 1, 1).bernoulli_(1 - block_rate)
    assert torch.equal(next_random_number, torch.rand(1))
