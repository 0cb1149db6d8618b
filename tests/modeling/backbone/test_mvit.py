"""MViT against timm's MViTv2 on equal weights, the plan of its blocks, windows, odd sizes."""

import pytest
import torch
from torch import nn

from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone import MViT
from d2lite.modeling.backbone.mvit import MultiScaleAttention, MultiScaleBlock

SCALES = ("scale2", "scale3", "scale4", "scale5")


def tiny_mvit(**kwargs) -> MViT:
    """Stages of 1, 2, 1 and 2 blocks."""
    defaults = {
        "img_size": 64,
        "embed_dim": 8,
        "depth": 6,
        "last_block_indexes": (0, 2, 3, 5),
        "adaptive_window_size": 8,
    }
    return MViT(**(defaults | kwargs))


def randomize(module: nn.Module) -> nn.Module:
    """Parameters that start at 0 or 1 would hide what they do."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("stride_q, stride_kv, dim_out", [(1, 2, 8), (2, 1, 16), (1, 4, 16)])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)])  # at the second, positions are interpolated
@torch.no_grad()
def test_block_gives_what_timm_gives_on_equal_weights(stride_q, stride_kv, dim_out, size):
    timm_mvit = pytest.importorskip("timm.models.mvitv2")
    ours = randomize(
        MultiScaleBlock(
            8,
            dim_out,
            num_heads=2,
            stride_q=stride_q,
            stride_kv=stride_kv,
            use_rel_pos=True,
            input_size=(8, 8),
        )
    )
    theirs = timm_mvit.MultiScaleBlock(
        8,
        dim_out,
        num_heads=2,
        feat_size=(8, 8),
        kernel_q=(3, 3),
        kernel_kv=(3, 3),
        stride_q=(stride_q, stride_q),
        stride_kv=(stride_kv, stride_kv),
        has_cls_token=False,
        expand_attn=True,
    )
    names = {"proj.weight": "shortcut_proj_attn.weight", "proj.bias": "shortcut_proj_attn.bias"}
    theirs.load_state_dict({names.get(k, k): v for k, v in ours.state_dict().items()})
    if size != (8, 8):
        # timm keeps the tables of its training size; ours resizes them, which is tested apart.
        tables = {name: getattr(ours.attn, name) for name in ("rel_pos_h", "rel_pos_w")}
        for (name, table), side in zip(tables.items(), size, strict=True):
            distances = 2 * max(-(-side // stride_q), -(-side // stride_kv)) - 1
            resized = nn.Parameter(torch.randn(distances, table.shape[1]))
            setattr(ours.attn, name, resized)
            setattr(theirs.attn, name, resized)

    x = torch.randn(2, *size, 8)
    expected, out_size = theirs(x.flatten(1, 2), list(size))
    assert list(out_size) == [-(-side // stride_q) for side in size]
    got = ours(x)
    torch.testing.assert_close(got, expected.view(2, *out_size, dim_out), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_windows_attend_to_themselves_alone():
    common = {"num_heads": 2, "stride_q": 2, "use_rel_pos": True, "input_size": (4, 4)}
    windowed = randomize(MultiScaleAttention(8, 8, window_size=4, **common))
    whole = MultiScaleAttention(8, 8, **common)
    whole.load_state_dict(windowed.state_dict())
    for attn in (windowed, whole):
        attn.residual_pooling = False
    # Pooling sees over the borders of windows; apart from it, each is on its own.
    for pool in (windowed.pool_q, windowed.pool_k, windowed.pool_v):
        pool.weight.zero_()[..., 1, 1] = 1.0
    whole.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 8, 8, 8)
    got = windowed(x)
    assert got.shape == (2, 4, 4, 8)
    for top in (0, 1):
        for left in (0, 1):
            part = x[:, 4 * top : 4 * top + 4, 4 * left : 4 * left + 4]
            own = got[:, 2 * top : 2 * top + 2, 2 * left : 2 * left + 2]
            torch.testing.assert_close(own, whole(part), rtol=1e-4, atol=1e-5)


def test_pooled_queries_are_added():
    attn = MultiScaleAttention(8, 8, num_heads=2, stride_q=2)
    nn.init.zeros_(attn.norm_v.weight)  # with values of 0, attention gives 0
    attn.proj = nn.Identity()
    x = torch.randn(1, 4, 4, 8)
    q = attn.qkv(x)[..., :8].unflatten(3, (2, 4)).permute(0, 3, 4, 1, 2).flatten(0, 1)
    pooled = attn.norm_q(attn.pool_q(q).permute(0, 2, 3, 1))  # (heads, 2, 2, 4)
    torch.testing.assert_close(attn(x), pooled.permute(1, 2, 0, 3).reshape(1, 2, 2, 8))


def test_plan_of_the_base_model():
    """MViTv2-B of the paper's table 1: strides, heads and widths of its 24 blocks."""
    with torch.device("meta"):
        net = MViT(embed_dim=96, depth=24, num_heads=1, last_block_indexes=(1, 4, 20, 23))
    blocks = list(net.blocks)
    assert [b.attn.num_heads for b in blocks] == [1] * 2 + [2] * 3 + [4] * 16 + [8] * 3
    assert [b.attn.proj.out_features for b in blocks] == [96 * b.attn.num_heads for b in blocks]
    assert [i for i, b in enumerate(blocks) if b.pool_skip is not None] == [2, 5, 21]
    assert [i for i, b in enumerate(blocks) if b.proj is not None] == [2, 5, 21]
    kv_strides = [b.attn.pool_k.stride[0] for b in blocks]
    assert kv_strides == [4] * 2 + [2] * 2 + [4] + [1] * 15 + [2] + [1] * 3
    # The first block of a stage still works at the resolution before it.
    windows = [b.attn.window_size for b in blocks]
    assert windows == [56] * 2 + [56, 28, 0] + [28] + [14] * 14 + [0] + [14, 7, 0]
    assert [b.attn.rel_pos_h.shape[0] for b in blocks] == (
        [2 * 56 - 1] * 2 + [2 * 28 - 1] * 3 + [2 * 28 - 1] + [2 * 14 - 1] * 15
        + [2 * 14 - 1] + [2 * 7 - 1] * 2
    )  # fmt: skip


@pytest.mark.parametrize("size", [(64, 64), (50, 90)])
@pytest.mark.parametrize("kwargs", [{}, {"use_abs_pos": True, "use_act_checkpoint": True}])
def test_any_size_is_taken_and_every_weight_trained(size: tuple[int, int], kwargs: dict):
    net = tiny_mvit(**kwargs)
    out = net(torch.randn(1, 3, *size))
    for name, shape in net.output_shape().items():
        expected = [-(-side // shape.stride) for side in size]
        assert out[name].shape == (1, shape.channels, *expected)
    sum(x.square().sum() for x in out.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_names_of_weights_are_those_of_released_models():
    names = set(tiny_mvit().state_dict())
    assert {n for n in names if not n.startswith("blocks.")} == {
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        *(f"{scale}_norm.{kind}" for scale in SCALES for kind in ("weight", "bias")),
    }
    pools = [f"attn.pool_{x}.weight" for x in "qkv"]
    layers = ["norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    layers += [f"attn.norm_{x}" for x in "qkv"]
    block = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    block |= {*pools, "attn.rel_pos_h", "attn.rel_pos_w"}
    for i in range(6):
        own = {n.removeprefix(f"blocks.{i}.") for n in names if n.startswith(f"blocks.{i}.")}
        widens = {"proj.weight", "proj.bias"} if i in (1, 3, 4) else set()
        assert own == block | widens


def test_only_wanted_features_are_given():
    net = tiny_mvit(out_features=["scale5", "scale3"])
    assert net.output_shape() == {
        "scale3": ShapeSpec(channels=16, stride=8),
        "scale5": ShapeSpec(channels=64, stride=32),
    }
    assert set(net(torch.randn(1, 3, 64, 64))) == {"scale3", "scale5"}
    with pytest.raises(ValueError, match=r"scale6.*scale2"):
        tiny_mvit(out_features=["scale6"])


def test_relative_positions_need_a_square():
    with pytest.raises(ValueError, match=r"square.*\(4, 6\)"):
        MultiScaleAttention(8, 8, 2, use_rel_pos=True, input_size=(4, 6))
