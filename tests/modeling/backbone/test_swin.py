"""Swin against torchvision's Swin on equal weights, masks by hand, odd sizes, frozen stages."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import swin_transformer as torchvision_swin

from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone import SwinTransformer
from d2lite.modeling.backbone.swin import (
    NOT_NEIGHBORS,
    PatchEmbed,
    PatchMerging,
    SwinTransformerBlock,
    WindowAttention,
    relative_position_index,
    shifted_window_mask,
    window_partition,
    window_reverse,
)

TINY = {"embed_dim": 8, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "drop_path_rate": 0.0}


def tiny_swin(**kwargs) -> SwinTransformer:
    defaults = {"window_size": 2, "out_indices": (0, 1, 2), **TINY}
    return SwinTransformer(**(defaults | kwargs))


def randomize(module: nn.Module) -> nn.Module:
    """Parameters that start at 0 or 1 would hide what they do."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def torchvision_name(name: str) -> str:
    """The name of one of our weights in torchvision's Swin."""
    parts = name.split(".")
    if parts[0] == "patch_embed":
        return ".".join(["features.0", {"proj": "0", "norm": "2"}[parts[1]], parts[2]])
    layer = int(parts[1])
    if parts[2] == "downsample":
        return ".".join([f"features.{2 * layer + 2}", *parts[3:]])
    rest = ".".join(parts[4:]).replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
    return f"features.{2 * layer + 1}.{parts[3]}.{rest}"


@pytest.mark.parametrize("size", [(64, 96), (52, 76)])  # the second is odd at every stage
@torch.no_grad()
def test_outputs_are_those_of_torchvision_on_equal_weights(size: tuple[int, int]):
    ours = randomize(tiny_swin()).eval()
    theirs = torchvision_swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=TINY["embed_dim"],
        depths=list(TINY["depths"]),
        num_heads=list(TINY["num_heads"]),
        window_size=[2, 2],
        num_classes=1,
    ).eval()
    weights = {
        torchvision_name(name): value.flatten() if name.endswith("position_index") else value
        for name, value in ours.state_dict().items()
        if not name.startswith("norm")
    }
    last = {k: v for k, v in theirs.state_dict().items() if k.startswith(("norm", "head"))}
    theirs.load_state_dict(weights | last)
    for module in [*ours.modules(), *theirs.modules()]:
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5

    x = torch.randn(2, 3, *size)
    got, expected = ours(x), x
    for i in range(3):
        # features: the patches, then in turn a stage and a merging
        expected = theirs.features[2 * i](expected)
        expected = theirs.features[2 * i + 1](expected)
        normed = ours.get_submodule(f"norm{i}")(expected).permute(0, 3, 1, 2)
        torch.testing.assert_close(got[f"p{i}"], normed, rtol=1e-3, atol=1e-4)


def attention_by_loops(attn: WindowAttention, x: Tensor) -> Tensor:
    """Attention of one window, (P, C), one query and key at a time."""
    (h, w), c = attn.window_size, x.shape[1] // attn.num_heads
    q, k, v = attn.qkv(x).split(x.shape[1], dim=1)
    out = torch.zeros_like(x)
    for head in range(attn.num_heads):
        own = slice(head * c, (head + 1) * c)
        for i in range(h * w):
            logits = torch.zeros(h * w)
            for j in range(h * w):
                down, right = i // w - j // w + h - 1, i % w - j % w + w - 1
                bias = attn.relative_position_bias_table[down * (2 * w - 1) + right, head]
                logits[j] = q[i, own] @ k[j, own] * attn.scale + bias
            out[i, own] = logits.softmax(0) @ v[:, own]
    return attn.proj(out)


@torch.no_grad()
def test_relative_position_index_by_hand():
    assert relative_position_index(1, 2).tolist() == [[1, 0], [2, 1]]
    # Rows of the table count the offsets (-1, -1), (-1, 0), ..., (1, 1); the middle one is none.
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert relative_position_index(2, 2).tolist() == expected


def test_attention_is_that_of_a_double_loop():
    attn = randomize(WindowAttention(6, window_size=(2, 3), num_heads=2, qk_scale=0.7))
    x = torch.randn(2, 6, 6)
    for got, window in zip(attn(x), x, strict=True):
        torch.testing.assert_close(got, attention_by_loops(attn, window), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_masked_attention_serves_several_images():
    attn = randomize(WindowAttention(6, window_size=(2, 2), num_heads=2))
    mask = torch.zeros(3, 4, 4)
    mask[1, :2, 2:] = mask[1, 2:, :2] = NOT_NEIGHBORS
    x = torch.randn(2 * 3, 4, 6)  # two images of three windows
    got = attn(x, mask)
    for i in range(6):
        torch.testing.assert_close(got[i], attn(x[i : i + 1], mask[i % 3, None])[0])
    # The halves of the second window do not see each other.
    changed = x.clone()
    changed[1, 2:] += 1
    torch.testing.assert_close(attn(changed, mask)[1, :2], got[1, :2])


def test_mask_of_a_small_map_by_hand():
    mask = shifted_window_mask(4, 3, window_size=2, shift_size=1, device=torch.device("cpu"))
    assert mask.shape == (4, 4, 4)  # 3 columns are padded to 4: 2 x 2 windows
    near, far = 0.0, NOT_NEIGHBORS
    assert not mask[0].any()
    side_by_side = [[near, far] * 2, [far, near] * 2] * 2  # the last column came from the left
    assert mask[1].tolist() == side_by_side
    assert mask[2].tolist() == [[near, near, far, far]] * 2 + [[far, far, near, near]] * 2
    assert mask[3].tolist() == [[near if i == j else far for j in range(4)] for i in range(4)]


@torch.no_grad()
def test_shifted_windows_reach_over_the_border_of_plain_ones():
    x = torch.zeros(1, 16, 4)
    touched = x.clone()
    touched[0, 5] = torch.tensor([1.0, 2.0, 3.0, 5.0])  # row 1, column 1 of a 4 x 4 map
    for shift, expected in ((0, {0, 1, 4, 5}), (1, {5, 6, 9, 10})):
        block = randomize(SwinTransformerBlock(4, 1, window_size=2, shift_size=shift))
        block.H = block.W = 4
        mask = shifted_window_mask(4, 4, 2, 1, x.device)
        changed = (block(touched, mask) - block(x, mask)).abs().amax(-1)[0] > 1e-6
        assert set(changed.nonzero().flatten().tolist()) == expected


def test_windows_are_undone():
    x = torch.randn(2, 4, 6, 3)
    windows = window_partition(x, 2)
    assert windows.shape == (12, 2, 2, 3)
    assert torch.equal(window_reverse(windows, 2, 4, 6), x)


def test_merging_goes_down_the_columns_first():
    merge = PatchMerging(1, norm_layer=nn.Identity)
    nn.init.zeros_(merge.reduction.weight)
    merge.reduction.weight.data[0] = torch.tensor([1000.0, 100.0, 10.0, 1.0])
    x = torch.tensor([[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]).view(1, 6, 1)  # 2 x 3, padded to 2 x 4
    assert merge(x, 2, 3)[0, :, 0].tolist() == [1324.0, 5600.0]


def test_patches_are_padded():
    embed = PatchEmbed(patch_size=4, embed_dim=6, norm_layer=nn.LayerNorm)
    assert embed(torch.zeros(1, 3, 9, 8)).shape == (1, 6, 3, 2)


@pytest.mark.parametrize("kwargs", [{}, {"ape": True, "patch_norm": False, "use_checkpoint": True}])
def test_any_size_is_taken_and_every_weight_trained(kwargs: dict):
    net = tiny_swin(window_size=3, **kwargs).train()
    out = net(torch.randn(2, 3, 50, 33))
    assert {name: tuple(x.shape[1:]) for name, x in out.items()} == {
        "p0": (8, 13, 9),
        "p1": (16, 7, 5),
        "p2": (32, 4, 3),
    }
    sum(x.square().sum() for x in out.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_shapes_are_announced():
    net = tiny_swin(out_indices=(1, 2))
    assert net.output_shape() == {
        "p1": ShapeSpec(channels=16, stride=8),
        "p2": ShapeSpec(channels=32, stride=16),
    }
    assert net.size_divisibility == 16
    assert not hasattr(net, "norm0")


def test_names_of_weights_are_those_of_released_models():
    block = [
        f"{layer}.{kind}"
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    ] + ["attn.relative_position_bias_table", "attn.relative_position_index"]
    merging = ["reduction.weight", "norm.weight", "norm.bias"]
    expected = {f"layers.{i}.blocks.{j}.{x}" for i in range(3) for j in range(2) for x in block}
    expected |= {f"layers.{i}.downsample.{x}" for i in range(2) for x in merging}
    expected |= {f"norm{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    expected |= {
        f"patch_embed.{layer}.{kind}" for layer in ("proj", "norm") for kind in ("weight", "bias")
    }
    expected.add("absolute_pos_embed")
    assert set(tiny_swin(ape=True).state_dict()) == expected


def test_frozen_stages_stay_as_they_are():
    net = tiny_swin(frozen_stages=2, ape=True, drop_path_rate=0.5).train()
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {
        n
        for n, _ in net.named_parameters()
        if n.startswith(("patch_embed", "absolute_pos_embed", "layers.0."))
    }
    assert not net.layers[0].training and net.layers[1].training
    assert all(p.requires_grad for p in tiny_swin(ape=True).parameters())


def test_rates_of_dropped_paths_go_on_from_stage_to_stage():
    net = tiny_swin(drop_path_rate=0.5)
    rates = [getattr(b.drop_path, "p", 0.0) for layer in net.layers for b in layer.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_shift_must_be_smaller_than_the_window():
    with pytest.raises(ValueError, match="use 0 to 1"):
        SwinTransformerBlock(4, 1, window_size=2, shift_size=2)
