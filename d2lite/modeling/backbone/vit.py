"""Plain vision transformers for detection (ViTDet, Li et al. 2022)."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn

from d2lite.layers import CNNBlockBase, Conv2d, conv_with_norm, get_norm
from d2lite.modeling.backbone.backbone import Backbone, select_features
from d2lite.modeling.backbone.transformer import (
    Mlp,
    attend_with_rel_pos,
    drop_path_layer,
    drop_path_rates,
    init_weights,
    maybe_checkpoint,
)
from d2lite.modeling.backbone.utils import (
    PatchEmbed,
    get_abs_pos,
    window_partition,
    window_unpartition,
)
from d2lite.utils.errors import ArgumentError

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class Attention(nn.Module):
    """Multi-head attention over all positions of a map, with optional relative positions."""

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ):
        """input_size: (H, W) that relative positions are for; for other sizes they are resized."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            if input_size is None:
                raise ValueError("use_rel_pos needs input_size, the (H, W) of the attention")
            head_dim = dim // num_heads
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * input_size[0] - 1, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * input_size[1] - 1, head_dim))
            if not rel_pos_zero_init:
                nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
                nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> the same shape."""
        n, h, w, _ = x.shape
        qkv = self.qkv(x).view(n, h * w, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, H * W, C) each
        rel_pos = (self.rel_pos_h, self.rel_pos_w) if self.use_rel_pos else None
        x = attend_with_rel_pos(q, k, v, rel_pos, (h, w), (h, w))
        return self.proj(x.transpose(1, 2).reshape(n, h, w, -1))


class ResBottleneckBlock(CNNBlockBase):
    """Three convolutions with a shortcut, which start as the identity.

    They carry information between windows (ViTDet, sec. 3, "convolutional propagation").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        norm: str | Norm = "LN",
        act_layer: Activation = nn.GELU,
    ):
        """bottleneck_channels: of the 3 x 3 convolution."""
        super().__init__(in_channels, out_channels, 1)
        width = bottleneck_channels
        self.conv1 = Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = get_norm(norm, width)
        self.act1 = act_layer()
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = get_norm(norm, width)
        self.act2 = act_layer()
        self.conv3 = Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = get_norm(norm, out_channels)
        for conv in (self.conv1, self.conv2, self.conv3):
            weight_init.c2_msra_fill(conv)
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.act2(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


class Block(nn.Module):
    """Attention and an MLP, each with a shortcut; attention may be kept within windows."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: Activation = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        use_residual_block: bool = False,
        input_size: tuple[int, int] | None = None,
    ):
        """Build one block.

        Args:
            window_size: side of the windows in patches; 0 is attention over the whole map.
            use_residual_block: adds a `ResBottleneckBlock` after the MLP.
            input_size: (H, W) of the map in patches, for relative positions.
        """
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(
            dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            use_rel_pos=use_rel_pos,
            rel_pos_zero_init=rel_pos_zero_init,
            input_size=(window_size, window_size) if window_size else input_size,
        )
        self.drop_path = drop_path_layer(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer)
        self.window_size = window_size
        self.use_residual_block = use_residual_block
        if use_residual_block:
            self.residual = ResBottleneckBlock(dim, dim, dim // 2, "LN", act_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x

    def _attend(self, x: Tensor) -> Tensor:
        if not self.window_size:
            return self.attn(x)
        windows, padded_hw = window_partition(x, self.window_size)
        return window_unpartition(self.attn(windows), self.window_size, padded_hw, x.shape[1:3])


class ViT(Backbone):
    """Vision transformer with the same resolution throughout and a single feature map."""

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: Activation = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
    ):
        """Build the network; images may have any size.

        Args:
            img_size: side of the training images in pixels, for relative positions.
            drop_path_rate: rate of the last block; it grows linearly from 0 at the first.
            rel_pos_zero_init: start relative positions at 0, not at random.
            window_size: side of the windows in patches, for the blocks of `window_block_indexes`;
                the other blocks attend to the whole map.
            residual_block_indexes: blocks that get convolutions after their MLP.
            use_act_checkpoint: recompute activations in the backward pass, to save memory.
            pretrain_img_size, pretrain_use_cls_token: side in pixels of the images that absolute
                positions are for, and whether there is one more position for a class token.
            out_feature: name of the feature map.
        """
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        patch = (patch_size, patch_size)
        self.patch_embed = PatchEmbed(patch, patch, (0, 0), in_chans, embed_dim)
        self.pos_embed = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(
            Block(
                dim=embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=rates[i],
                norm_layer=norm_layer,
                act_layer=act_layer,
                use_rel_pos=use_rel_pos,
                rel_pos_zero_init=rel_pos_zero_init,
                window_size=window_size if i in window_block_indexes else 0,
                use_residual_block=i in residual_block_indexes,
                input_size=(img_size // patch_size, img_size // patch_size),
            )
            for i in range(depth)
        )
        self._out_features = [out_feature]
        self._out_feature_channels = {out_feature: embed_dim}
        self._out_feature_strides = {out_feature: patch_size}
        init_weights(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_chans, H, W) -> the one feature, (N, embed_dim, H / patch, W / patch)."""
        x = self.patch_embed(x)  # (N, H', W', embed_dim)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, x.shape[1:3])
        for block in self.blocks:
            x = maybe_checkpoint(block, self.use_act_checkpoint, x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


class SimpleFeaturePyramid(Backbone):
    """Feature pyramid made from the last feature map alone (ViTDet, fig. 2, right).

    The level of stride 2**k is called "pk".
    """

    def __init__(
        self,
        net: Backbone,
        in_feature: str,
        out_channels: int,
        scale_factors: Sequence[float],
        top_block: nn.Module | None = None,
        norm: str = "LN",
        square_pad: int = 0,
    ):
        """Add the levels to `net`.

        Args:
            in_feature: name of its feature to start from.
            scale_factors: resolution of each level relative to that feature: 4, 2, 1 and 0.5, or
                some of them in that order without gaps.
            top_block: makes `num_levels` further levels from its `in_feature`, which is a
                feature of `net` or a level of the pyramid.
            square_pad: when positive, every image is padded to a square of this side.
        Raises:
            ValueError: the feature or a scale is unknown, or scales do not halve.
        """
        super().__init__()
        (shape,) = select_features(net.output_shape(), [in_feature], "in_feature")
        strides = [int(shape.stride / scale) for scale in scale_factors]
        _check_strides(strides, scale_factors)
        self.stages: list[nn.Sequential] = []
        for stride, scale in zip(strides, scale_factors, strict=True):
            resize, channels = _resize_layers(shape.channels, scale, norm)
            project = conv_with_norm(channels, out_channels, 1, norm=norm)
            refine = conv_with_norm(out_channels, out_channels, 3, norm=norm)
            stage = nn.Sequential(*resize, project, refine)
            self.add_module(f"simfp_{int(math.log2(stride))}", stage)
            self.stages.append(stage)
        # Registered last: optimizers in checkpoints count the parameters in detectron2's order.
        self.net = net
        self.in_feature = in_feature
        self.top_block = top_block
        self._size_divisibility = strides[-1]
        self._square_pad = square_pad
        extra = 0 if top_block is None else top_block.num_levels
        strides += [strides[-1] * 2 ** (i + 1) for i in range(extra)]
        self._out_feature_strides = {f"p{int(math.log2(s))}": s for s in strides}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) images -> "p2", "p3", ...: (N, out_channels, H / stride, W / stride)."""
        features = self.net(x)
        levels = [stage(features[self.in_feature]) for stage in self.stages]
        if self.top_block is not None:
            named = dict(zip(self._out_features, levels, strict=False)) | features
            levels.extend(self.top_block(named[self.top_block.in_feature]))
        return dict(zip(self._out_features, levels, strict=True))

    @property
    def size_divisibility(self) -> int:
        """The largest stride: every level then has exactly half the size of the one below."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The multiple that sizes are padded to, and the side of squares if `square_pad` is set."""
        return {"size_divisibility": self._size_divisibility, "square_size": self._square_pad}


def get_vit_lr_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """Return the factor on the learning rate of a parameter, which falls toward the ViT's input.

    Args:
        name: the parameter's, in a model whose ViT is in "backbone".
        lr_decay_rate: from one layer to the one below it.
        num_layers: blocks of the ViT.
    Returns:
        1 after the blocks and outside the backbone, lr_decay_rate in the last block, and one more
        such factor for each block before it and for the embeddings.
    """
    layer = num_layers + 1
    if name.startswith("backbone"):
        if ".pos_embed" in name or ".patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = int(name.partition(".blocks.")[2].split(".")[0]) + 1
    return lr_decay_rate ** (num_layers + 1 - layer)


def _resize_layers(channels: int, scale: float, norm: str) -> tuple[list[nn.Module], int]:
    """Return layers that change the resolution by `scale`, and their output channels."""
    if scale == 1.0:
        return [], channels
    if scale == 0.5:
        return [nn.MaxPool2d(kernel_size=2, stride=2)], channels
    half, quarter = channels // 2, channels // 4
    double = nn.ConvTranspose2d(channels, half, kernel_size=2, stride=2)
    if scale == 2.0:
        return [double], half
    # Without a norm, keep its place, because the names of weights contain indices of layers.
    between = get_norm(norm, half) or nn.Identity()
    double_again = nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2)
    return [double, between, nn.GELU(), double_again], quarter


def _check_strides(strides: Sequence[int], scale_factors: Sequence[float]) -> None:
    unknown = [scale for scale in scale_factors if scale not in (4.0, 2.0, 1.0, 0.5)]
    if unknown or not scale_factors:
        raise ValueError(f"scale_factors are {list(scale_factors)}; use some of 4, 2, 1, 0.5")
    if (
        any(b != 2 * a for a, b in pairwise(strides))
        or 2 ** int(math.log2(strides[0])) != (strides[0])
    ):
        raise ArgumentError(
            f"scale_factors {list(scale_factors)} give strides {list(strides)}; "
            "they must be powers of 2 and double from one level to the next"
        )
