"""ViT against timm's ViT on equal weights, attention by a double loop, the simple pyramid."""

import pytest
import torch
from torch import Tensor, nn

from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone import SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate
from d2lite.modeling.backbone.fpn import LastLevelMaxPool
from d2lite.modeling.backbone.vit import Attention, Block


def tiny_vit(**kwargs) -> ViT:
    defaults = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "pretrain_img_size": 24,
    }
    return ViT(**(defaults | kwargs))


def randomize(module: nn.Module) -> nn.Module:
    """Parameters that start at 0 or 1 would hide what they do."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@torch.no_grad()
def test_output_is_that_of_timm_on_equal_weights():
    timm_vit = pytest.importorskip("timm.models.vision_transformer")
    ours = randomize(tiny_vit(pretrain_img_size=32)).eval()
    theirs = timm_vit.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0
    ).eval()
    result = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert set(result.missing_keys) == {"cls_token", "norm.weight", "norm.bias"}
    assert not result.unexpected_keys

    # timm's class token attends as well: the blocks are compared, not the whole network.
    x = torch.randn(2, 3, 32, 32)
    tokens = theirs.patch_embed(x) + ours.pos_embed[:, 1:]
    for block in theirs.blocks:
        block.norm1.eps = block.norm2.eps = 1e-5
    expected = theirs.blocks(tokens).view(2, 4, 4, 16).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x)["last_feat"], expected, rtol=1e-4, atol=1e-4)


def attention_by_loops(attn: Attention, x: Tensor) -> Tensor:
    """Attention of one image, (H, W, C), as the papers write it: one query and key at a time."""
    h, w, dim = x.shape
    c = dim // attn.num_heads
    q, k, v = attn.qkv(x.reshape(h * w, dim)).split(dim, dim=1)
    out = torch.zeros(h * w, dim)
    for head in range(attn.num_heads):
        own = slice(head * c, (head + 1) * c)
        for i in range(h * w):
            logits = torch.zeros(h * w)
            for j in range(h * w):
                down, right = i // w - j // w + h - 1, i % w - j % w + w - 1
                position = attn.rel_pos_h[down] + attn.rel_pos_w[right]
                logits[j] = q[i, own] @ k[j, own] / c**0.5 + q[i, own] @ position
            out[i, own] = logits.softmax(0) @ v[:, own]
    return attn.proj(out).view(h, w, dim)


@torch.no_grad()
def test_relative_positions_are_those_of_a_double_loop():
    attn = randomize(Attention(8, num_heads=2, use_rel_pos=True, input_size=(3, 2)))
    x = torch.randn(2, 3, 2, 8)
    for got, image in zip(attn(x), x, strict=True):
        torch.testing.assert_close(got, attention_by_loops(attn, image), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windows_attend_to_themselves_alone():
    block = randomize(Block(8, 2, use_rel_pos=True, window_size=3, input_size=(6, 6)))
    whole = randomize(Block(8, 2, use_rel_pos=True, window_size=0, input_size=(3, 3)))
    whole.load_state_dict(block.state_dict())
    x = torch.randn(1, 6, 6, 8)
    got = block(x)
    for top in (0, 3):
        for left in (0, 3):
            part = (slice(None), slice(top, top + 3), slice(left, left + 3))
            torch.testing.assert_close(got[part], whole(x[part]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (40, 56), (37, 29)])
def test_any_size_is_taken_and_every_weight_trained(size: tuple[int, int]):
    net = tiny_vit(
        use_rel_pos=True, window_size=3, window_block_indexes=[0], residual_block_indexes=[1]
    )
    out = net(torch.randn(2, 3, *size))["last_feat"]
    assert out.shape == (2, 16, size[0] // 8, size[1] // 8)
    nn.init.ones_(net.blocks[1].residual.norm3.weight)  # starts at 0, which stops the gradient
    net(torch.randn(2, 3, *size))["last_feat"].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_checkpointed_blocks_give_the_same_gradients():
    plain, saving = tiny_vit(), tiny_vit(use_act_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    for net in (plain, saving):
        net(x)["last_feat"].square().sum().backward()
    for expected, got in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


@torch.no_grad()
def test_convolutions_after_blocks_start_as_the_identity():
    block = Block(8, 2, use_residual_block=True)
    x = torch.randn(1, 3, 3, 8)
    with_convolutions = block(x)
    block.use_residual_block = False
    torch.testing.assert_close(with_convolutions, block(x))


def test_rates_of_dropped_paths_grow_from_block_to_block():
    net = tiny_vit(depth=3, drop_path_rate=0.2)
    assert isinstance(net.blocks[0].drop_path, nn.Identity)
    assert [block.drop_path.p for block in net.blocks[1:]] == pytest.approx([0.1, 0.2])


def test_dropped_paths_leave_the_shortcut():
    block = Block(8, 2, drop_path=0.999999).train()
    x = torch.randn(4, 2, 2, 8)
    assert torch.equal(block(x), x)
    assert not torch.equal(block.eval()(x), x)


def tiny_pyramid(net: nn.Module | None = None, **kwargs) -> SimpleFeaturePyramid:
    defaults = {
        "in_feature": "last_feat",
        "out_channels": 8,
        "scale_factors": (4.0, 2.0, 1.0, 0.5),
        "top_block": LastLevelMaxPool(),
    }
    return SimpleFeaturePyramid(net or tiny_vit(patch_size=16), **(defaults | kwargs))


def test_pyramid_has_the_announced_levels():
    pyramid = tiny_pyramid(square_pad=64)
    levels = pyramid(torch.randn(1, 3, 64, 32))
    assert pyramid.output_shape() == {
        f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)
    }
    for name, shape in pyramid.output_shape().items():
        size = (64 // shape.stride, max(32 // shape.stride, 1))
        assert levels[name].shape == (1, 8, *size)
    assert pyramid.size_divisibility == 32
    assert pyramid.padding_constraints == {"size_divisibility": 32, "square_size": 64}


def test_names_of_weights_are_those_of_released_models():
    net = tiny_vit(
        patch_size=16,
        use_rel_pos=True,
        residual_block_indexes=[0],
    )
    attention = ["qkv.weight", "qkv.bias", "proj.weight", "proj.bias", "rel_pos_h", "rel_pos_w"]
    linear = ["norm1", "norm2", "mlp.fc1", "mlp.fc2"]
    convolutions = [f"conv{i}.weight" for i in (1, 2, 3)] + [
        f"norm{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")
    ]
    expected = {"net.pos_embed", "net.patch_embed.proj.weight", "net.patch_embed.proj.bias"}
    for i in range(2):
        expected |= {f"net.blocks.{i}.attn.{name}" for name in attention}
        expected |= {f"net.blocks.{i}.{x}.{kind}" for x in linear for kind in ("weight", "bias")}
    expected |= {f"net.blocks.0.residual.{name}" for name in convolutions}
    resized = [f"simfp_2.{i}" for i in (0, 1, 3)] + ["simfp_3.0"]  # simfp_2.2 is an activation
    expected |= {f"{name}.{kind}" for name in resized for kind in ("weight", "bias")}
    for first in ("simfp_2.4", "simfp_3.1", "simfp_4.0", "simfp_5.1"):
        level, at = first.split(".")
        for name in (first, f"{level}.{int(at) + 1}"):
            expected |= {f"{name}.weight", f"{name}.norm.weight", f"{name}.norm.bias"}
    assert set(tiny_pyramid(net).state_dict()) == expected


def test_top_block_may_start_from_the_vit():
    class Half(nn.Module):
        in_feature, num_levels = "last_feat", 1

        def forward(self, x: Tensor) -> list[Tensor]:
            return [x[:, :8, ::2, ::2]]

    pyramid = tiny_pyramid(scale_factors=(1.0,), top_block=Half(), norm="")
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(pyramid(x)["p5"], pyramid.net(x)["last_feat"][:, :8, ::2, ::2])


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"scale_factors": (3.0,)}, "use some of 4, 2, 1, 0.5"),
        ({"scale_factors": ()}, "use some of"),
        ({"scale_factors": (4.0, 1.0)}, r"strides \[4, 16\].*double"),
        ({"in_feature": "last"}, "'last'.*last_feat"),
    ],
)
def test_pyramid_refuses_what_does_not_fit(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tiny_pyramid(**kwargs)


def test_relative_positions_need_a_size():
    with pytest.raises(ValueError, match="input_size"):
        Attention(8, use_rel_pos=True)


@pytest.mark.parametrize(
    "name, power",
    [
        ("backbone.net.pos_embed", 13),
        ("backbone.net.patch_embed.proj.weight", 13),
        ("backbone.net.blocks.0.attn.qkv.weight", 12),
        ("backbone.net.blocks.11.mlp.fc1.bias", 1),
        ("backbone.net.blocks.2.residual.conv1.weight", 0),  # new layers, with the full rate
        ("backbone.simfp_2.0.weight", 0),
        ("roi_heads.box_head.fc1.weight", 0),
    ],
)
def test_learning_rates_fall_toward_the_input(name: str, power: int):
    assert get_vit_lr_decay_rate(name, 0.7, num_layers=12) == pytest.approx(0.7**power)
