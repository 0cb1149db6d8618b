"""Multiscale vision transformers (MViTv2, Li et al. 2022), with windows for detection."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2lite.modeling.backbone.backbone import Backbone
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


def attention_pool(x: Tensor, pool: nn.Module, norm: nn.Module | None = None) -> Tensor:
    """Pool a channels-last map, (N, H, W, C) -> (N, H', W', C'), and normalize it."""
    x = pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x if norm is None else norm(x)


class MultiScaleAttention(nn.Module):
    """Multi-head attention whose queries, keys and values are pooled by depthwise convolutions."""

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        qkv_bias: bool = True,
        norm_layer: Norm = nn.LayerNorm,
        pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ):
        """Build the attention.

        Args:
            stride_q, stride_kv: strides of the pooling of queries, and of keys and values.
            residual_pooling: add the pooled queries to the result (the paper's eq. 6).
            window_size: side of the windows at the input's resolution; 0 attends to the whole map.
            input_size: (H, W) of the input that the relative positions are for; must be square.
        Raises:
            ValueError: `use_rel_pos` is set without a square `input_size`.
        """
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim_out // num_heads
        self.qkv = nn.Linear(dim, dim_out * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        for name, stride in (("q", stride_q), ("k", stride_kv), ("v", stride_kv)):
            pool = nn.Conv2d(
                head_dim,
                head_dim,
                pool_kernel,
                stride=stride,
                padding=tuple(k // 2 for k in pool_kernel),
                groups=head_dim,
                bias=False,
            )
            self.add_module(f"pool_{name}", pool)
            self.add_module(f"norm_{name}", norm_layer(head_dim))
        self.q_win_size = window_size // stride_q
        self.kv_win_size = window_size // stride_kv
        self.window_size = window_size
        self.residual_pooling = residual_pooling
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            if input_size is None or input_size[0] != input_size[1]:
                raise ArgumentError(f"use_rel_pos needs a square input_size, not {input_size}")
            side = max(input_size[0] // stride_q, input_size[0] // stride_kv)
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, head_dim))
            if not rel_pos_zero_init:
                nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
                nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> (N, H / stride_q, W / stride_q, dim_out)."""
        n, h, w, _ = x.shape
        qkv = self.qkv(x).view(n, h, w, 3, self.num_heads, -1)
        qkv = qkv.permute(3, 0, 4, 1, 2, 5).flatten(1, 2)  # (3, N * heads, H, W, C)
        q = attention_pool(qkv[0], self.pool_q, self.norm_q)
        k = attention_pool(qkv[1], self.pool_k, self.norm_k)
        v = attention_pool(qkv[2], self.pool_v, self.norm_v)
        if self.window_size:
            windows, padded_hw = window_partition(q, self.q_win_size)
            attended = self._attend(
                windows,
                window_partition(k, self.kv_win_size)[0],
                window_partition(v, self.kv_win_size)[0],
            )
            attended = window_unpartition(attended, self.q_win_size, padded_hw, q.shape[1:3])
        else:
            attended = self._attend(q, k, v)
        if self.residual_pooling:
            attended = attended + q
        attended = attended.unflatten(0, (n, self.num_heads)).permute(0, 2, 3, 1, 4)
        return self.proj(attended.flatten(3))  # (N, H', W', dim_out)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, W, C) queries and (B, H', W', C) keys and values -> the shape of queries."""
        rel_pos = (self.rel_pos_h, self.rel_pos_w) if self.use_rel_pos else None
        one_head = [x.flatten(1, 2)[:, None] for x in (q, k, v)]  # (B, 1, H * W, C) each
        attended = attend_with_rel_pos(*one_head, rel_pos, q.shape[1:3], k.shape[1:3])
        return attended.view(q.shape)


class MultiScaleBlock(nn.Module):
    """Pooling attention and an MLP, each with a shortcut; may change channels and resolution."""

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ):
        """Build one block; see `MultiScaleAttention` for most arguments.

        Args:
            stride_q: by how much the block shrinks height and width.
            mlp_ratio: width of the MLP, relative to `dim_out`.
        """
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = MultiScaleAttention(
            dim,
            dim_out,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            norm_layer=norm_layer,
            pool_kernel=qkv_pool_kernel,
            stride_q=stride_q,
            stride_kv=stride_kv,
            residual_pooling=residual_pooling,
            window_size=window_size,
            use_rel_pos=use_rel_pos,
            rel_pos_zero_init=rel_pos_zero_init,
            input_size=input_size,
        )
        self.drop_path = drop_path_layer(drop_path)
        self.norm2 = norm_layer(dim_out)
        self.mlp = Mlp(dim_out, int(dim_out * mlp_ratio), act_layer=act_layer)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip = None
        if stride_q > 1:
            kernel = stride_q + 1
            self.pool_skip = nn.MaxPool2d(kernel, stride_q, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> (N, H / stride_q, W / stride_q, dim_out)."""
        normed = self.norm1(x)
        # The projected shortcut starts from the normalized input, as in released models.
        shortcut = x if self.proj is None else self.proj(normed)
        if self.pool_skip is not None:
            shortcut = attention_pool(shortcut, self.pool_skip)
        x = shortcut + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MViT(Backbone):
    """Stages of decreasing resolution, called "scale2" (stride 4), "scale3" and so on."""

    def __init__(
        self,
        img_size: int = 224,
        patch_kernel: tuple[int, int] = (7, 7),
        patch_stride: tuple[int, int] = (4, 4),
        patch_padding: tuple[int, int] = (3, 3),
        in_chans: int = 3,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        last_block_indexes: Sequence[int] = (0, 2, 11, 15),
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        adaptive_kv_stride: int = 4,
        adaptive_window_size: int = 56,
        residual_pooling: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        use_abs_pos: bool = False,
        use_rel_pos: bool = True,
        rel_pos_zero_init: bool = True,
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_features: Sequence[str] = ("scale2", "scale3", "scale4", "scale5"),
    ):
        """Build the network; images may have any size.

        Args:
            img_size: side of the training images in pixels, for relative positions.
            embed_dim, num_heads: of the first stage; both double from stage to stage.
            last_block_indexes: the last block of each of the four stages.
            adaptive_kv_stride: pooling of keys and values in the first stage; it halves from
                stage to stage, down to 1.
            adaptive_window_size: side in patches of the first stage's windows; it halves from stage
                to stage. The last blocks of later stages attend to the whole map.
            drop_path_rate: rate of the last block; it grows linearly from 0 at the first.
            use_act_checkpoint: recompute activations in the backward pass, to save memory.
            pretrain_img_size, pretrain_use_cls_token: side in pixels of the images that absolute
                positions are for, and whether there is one more position for a class token.
        Raises:
            ValueError: a name in `out_features` is unknown.
        """
        super().__init__()
        self.use_act_checkpoint = use_act_checkpoint
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.patch_embed = PatchEmbed(
            patch_kernel, patch_stride, patch_padding, in_chans, embed_dim
        )
        self.pos_embed = None
        if use_abs_pos:
            h, w = (pretrain_img_size // stride for stride in patch_stride)
            self.pos_embed = nn.Parameter(torch.zeros(1, h * w + pretrain_use_cls_token, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList()
        for i in range(depth):
            plan = _plan_block(i, last_block_indexes, adaptive_kv_stride, adaptive_window_size)
            block = MultiScaleBlock(
                dim=embed_dim * 2**plan.stage_before,
                dim_out=embed_dim * 2**plan.stage,
                num_heads=num_heads * 2**plan.stage,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=rates[i],
                norm_layer=norm_layer,
                act_layer=act_layer,
                qkv_pool_kernel=qkv_pool_kernel,
                residual_pooling=residual_pooling,
                **plan.pooling,
                use_rel_pos=use_rel_pos,
                rel_pos_zero_init=rel_pos_zero_init,
                input_size=tuple(img_size // s // 2**plan.stage_before for s in patch_stride),
            )
            self.blocks.append(block)
        self._name_outputs(out_features, last_block_indexes, embed_dim, patch_stride[0])
        for name in self._out_features:
            self.add_module(f"{name}_norm", norm_layer(self._out_feature_channels[name]))
        init_weights(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_chans, H, W) -> "scale2", ...: (N, Ci, H / stride_i, W / stride_i)."""
        x = self.patch_embed(x)  # (N, H', W', embed_dim)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, x.shape[1:3])
        outputs = {}
        for i, block in enumerate(self.blocks):
            x = maybe_checkpoint(block, self.use_act_checkpoint, x)
            name = self._name_of_last_block.get(i)
            if name in self._out_features:
                normed = self.get_submodule(f"{name}_norm")(x)
                outputs[name] = normed.permute(0, 3, 1, 2).contiguous()
        return outputs

    def _name_outputs(
        self, wanted: Sequence[str], last_block_indexes: Sequence[int], channels: int, stride: int
    ) -> None:
        names = [f"scale{stage + 2}" for stage in range(len(last_block_indexes))]
        if not wanted or not set(wanted) <= set(names):
            raise ValueError(f"out_features is {list(wanted)}; use one or more of {names}")
        self._name_of_last_block = dict(zip(last_block_indexes, names, strict=True))
        self._out_features = [name for name in names if name in wanted]
        self._out_feature_channels = {
            name: channels * 2**i for i, name in enumerate(names) if name in wanted
        }
        self._out_feature_strides = {
            name: stride * 2**i for i, name in enumerate(names) if name in wanted
        }


class _BlockPlan(NamedTuple):
    stage: int  # of the output, from 0
    stage_before: int  # of the input: the first block of a stage changes channels and size
    pooling: dict[str, int]  # arguments of `MultiScaleBlock`


def _plan_block(
    index: int, last_block_indexes: Sequence[int], kv_stride: int, window_size: int
) -> _BlockPlan:
    """Return the plan of block `index`; the last two arguments are those of the first stage."""
    stage = sum(last < index for last in last_block_indexes)
    stage_before = sum(last < index - 1 for last in last_block_indexes)
    pooling = {
        "stride_q": 2 ** (stage - stage_before),
        "stride_kv": max(kv_stride >> stage, 1),
        "window_size": window_size >> stage_before,
    }
    # Attending to the whole map is costly at high resolution: halve that of keys and values.
    if index in last_block_indexes[1:3]:
        pooling["stride_kv"] *= 2
    if index in last_block_indexes[1:]:
        pooling["window_size"] = 0
    return _BlockPlan(stage, stage_before, pooling)
