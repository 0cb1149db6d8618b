"""Swin transformers (Liu et al. 2021): attention within windows that shift from block to block."""

from collections.abc import Callable, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.modeling.backbone import utils
from d2lite.modeling.backbone.backbone import Backbone
from d2lite.modeling.backbone.transformer import (
    Mlp,
    drop_path_layer,
    drop_path_rates,
    init_layer,
    maybe_checkpoint,
)
from d2lite.utils.errors import ArgumentError

Norm = Callable[[int], nn.Module]

# Added to the attention logits of positions that are in one window only because of the shift. A
# finite value, as in released models; exp(-100) is practically 0.
NOT_NEIGHBORS = -100.0


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """(N, H, W, C) -> (N * windows, window_size, window_size, C); window_size divides H, W."""
    return utils.window_partition(x, window_size)[0]


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """Undo `window_partition`: (N * windows, window_size, window_size, C) -> (N, H, W, C)."""
    return utils.window_unpartition(windows, window_size, (H, W), (H, W))


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each relative position."""

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        """qk_scale: factor of the logits, by default 1 / sqrt(channels of a head)."""
        super().__init__()
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        h, w = window_size
        table = torch.zeros((2 * h - 1) * (2 * w - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(table)
        # In the state dict, because released weights contain it.
        self.register_buffer("relative_position_index", relative_position_index(h, w))
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.attn_drop = attn_drop
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        # Initialize after the layers: in this order, a seed gives detectron2's weights.
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within each window.

        Args:
            x: (N * windows, P, dim), with the P positions of a window row by row.
            mask: (windows, P, P), added to the logits; None adds nothing.
        Returns:
            The shape of x.
        """
        batch, positions, dim = x.shape
        qkv = self.qkv(x).view(batch, positions, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self._position_bias()  # (heads, P, P)
        if mask is not None:
            # Windows and heads together take the place of heads, so that one bias serves all
            # images of the batch.
            bias = (bias + mask[:, None]).flatten(0, 1)  # (windows * heads, P, P)
        q, k, v = qkv.reshape(3, -1, bias.shape[0], positions, dim // self.num_heads).unbind(0)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias[None].to(q.dtype),
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=self.scale,
        )
        attended = attended.view(batch, self.num_heads, positions, -1).transpose(1, 2)
        return self.proj_drop(self.proj(attended.reshape(batch, positions, dim)))

    def _position_bias(self) -> Tensor:
        bias = self.relative_position_bias_table[self.relative_position_index]  # (P, P, heads)
        return bias.permute(2, 0, 1)


class SwinTransformerBlock(nn.Module):
    """Attention within windows, which may be shifted, and an MLP, each with a shortcut."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift_size: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: Norm = nn.LayerNorm,
    ):
        """shift_size: by how many positions the windows are shifted, below window_size."""
        super().__init__()
        if not 0 <= shift_size < window_size:
            raise ArgumentError(f"shift_size is {shift_size}; use 0 to {window_size - 1}")
        self.window_size = window_size
        self.shift_size = shift_size
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention(
            dim,
            window_size=(window_size, window_size),
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.drop_path = drop_path_layer(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)
        # Size of the next input, set by `BasicLayer`, because x is a flat sequence.
        self.H: int | None = None
        self.W: int | None = None

    def forward(self, x: Tensor, mask_matrix: Tensor) -> Tensor:
        """Transform a map of self.H x self.W positions.

        Args:
            x: (N, H * W, dim).
            mask_matrix: (windows, P, P) for shifted windows; see `shifted_window_mask`.
        """
        n, _, dim = x.shape
        attended = self._attend(self.norm1(x).view(n, self.H, self.W, dim), mask_matrix)
        x = x + self.drop_path(attended.flatten(1, 2))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask_matrix: Tensor) -> Tensor:
        """(N, H, W, dim) -> the same shape."""
        hw, side, shift = x.shape[1:3], self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -hw[1] % side, 0, -hw[0] % side))
        padded_hw = x.shape[1:3]
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows = window_partition(x, side)
        attended = self.attn(windows.flatten(1, 2), mask_matrix if shift else None)
        x = window_reverse(attended.view_as(windows), side, *padded_hw)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, : hw[0], : hw[1]]


class PatchMerging(nn.Module):
    """Layer that halves the resolution and doubles the channels: 2 x 2 positions become one."""

    def __init__(self, dim: int, norm_layer: Norm = nn.LayerNorm):
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        """(N, H * W, dim) -> (N, ceil(H / 2) * ceil(W / 2), 2 * dim)."""
        n, _, dim = x.shape
        x = F.pad(x.view(n, H, W, dim), (0, 0, 0, W % 2, 0, H % 2))
        # The four positions are concatenated column by column, the order of released weights.
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # (N, H', 2, W', 2, dim)
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(n, -1, 4 * dim)
        return self.reduction(self.norm(x))


class BasicLayer(nn.Module):
    """A stage: every other block has shifted windows; then an optional `PatchMerging`."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float | Sequence[float] = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        downsample: Callable[..., nn.Module] | None = None,
        use_checkpoint: bool = False,
    ):
        """Build the stage.

        Args:
            drop_path: for all blocks, or one for each.
            downsample: takes `dim` and `norm_layer`, such as `PatchMerging`; None keeps the size.
            use_checkpoint: recompute activations in the backward pass, to save memory.
        """
        super().__init__()
        self.window_size = window_size
        self.shift_size = window_size // 2
        self.use_checkpoint = use_checkpoint
        rates = drop_path if isinstance(drop_path, Sequence) else [drop_path] * depth
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                dim=dim,
                num_heads=num_heads,
                window_size=window_size,
                shift_size=self.shift_size if i % 2 else 0,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rates[i],
                norm_layer=norm_layer,
            )
            for i in range(depth)
        )
        self.downsample = downsample(dim=dim, norm_layer=norm_layer) if downsample else None

    def forward(self, x: Tensor, H: int, W: int) -> tuple[Tensor, int, int, Tensor, int, int]:
        """Transform a map, (N, H * W, dim).

        Returns:
            The output and its H and W, then the input of the next stage and its H and W.
        """
        mask = shifted_window_mask(H, W, self.window_size, self.shift_size, x.device)
        for block in self.blocks:
            block.H, block.W = H, W
            x = maybe_checkpoint(block, self.use_checkpoint, x, mask)
        if self.downsample is None:
            return x, H, W, x, H, W
        return x, H, W, self.downsample(x, H, W), (H + 1) // 2, (W + 1) // 2


class PatchEmbed(nn.Module):
    """Embedding of patches by a strided convolution, after padding to a multiple of their size."""

    def __init__(
        self,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Norm | None = None,
    ):
        """norm_layer: applied to the embeddings; None leaves it out."""
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, embed_dim, ceil(H / patch), ceil(W / patch))."""
        x = F.pad(x, (0, -x.shape[-1] % self.patch_size, 0, -x.shape[-2] % self.patch_size))
        x = self.proj(x)
        if self.norm is None:
            return x
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SwinTransformer(Backbone):
    """Swin transformer, by default of four stages; features are called "p0", "p1" and so on."""

    def __init__(
        self,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Norm = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ):
        """Build the network; images may have any size.

        Args:
            pretrain_img_size: side in pixels of the images that absolute positions are for.
            embed_dim: channels of the first stage; they double from stage to stage.
            depths, num_heads: one value for each stage.
            drop_path_rate: rate of the last block; it grows linearly from 0 at the first.
            ape: add absolute positions to the patches.
            patch_norm: normalize the embeddings of patches.
            out_indices: stages whose features are returned.
            frozen_stages: -1 trains all; 0 freezes the embedding of patches, 1 the absolute
                positions as well, 2 the first stage as well, 3 two stages, and so on.
            use_checkpoint: recompute activations in the backward pass, to save memory.
        """
        super().__init__()
        self.ape = ape
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.patch_embed = PatchEmbed(
            patch_size, in_chans, embed_dim, norm_layer if patch_norm else None
        )
        if ape:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.layers = nn.ModuleList(
            BasicLayer(
                dim=embed_dim * 2**i,
                depth=depths[i],
                num_heads=num_heads[i],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=list(islice(rates, depths[i])),
                norm_layer=norm_layer,
                downsample=PatchMerging if i < len(depths) - 1 else None,
                use_checkpoint=use_checkpoint,
            )
            for i in range(len(depths))
        )
        self._out_features = [f"p{i}" for i in self.out_indices]
        self._out_feature_channels = {f"p{i}": embed_dim * 2**i for i in self.out_indices}
        self._out_feature_strides = {f"p{i}": patch_size * 2**i for i in self.out_indices}
        self._size_divisibility = patch_size * 2 ** (len(depths) - 1)
        for i in self.out_indices:
            self.add_module(f"norm{i}", norm_layer(embed_dim * 2**i))
        self.apply(init_layer)
        self._freeze_stages()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_chans, H, W) -> "p0", "p1", ...: (N, Ci, ceil(H / stride_i), ...)."""
        x = self.patch_embed(x)  # (N, embed_dim, H', W')
        h, w = x.shape[2:]
        if self.ape:
            x = x + F.interpolate(self.absolute_pos_embed, size=(h, w), mode="bicubic")
        x = self.pos_drop(x.flatten(2).transpose(1, 2))  # (N, H' * W', embed_dim)
        outputs = {}
        for i, layer in enumerate(self.layers):
            out, out_h, out_w, x, h, w = layer(x, h, w)
            if i in self.out_indices:
                normed = self.get_submodule(f"norm{i}")(out).view(out.shape[0], out_h, out_w, -1)
                outputs[f"p{i}"] = normed.permute(0, 3, 1, 2).contiguous()
        return outputs

    @property
    def size_divisibility(self) -> int:
        """The largest stride: every stage then has exactly half the size of the one before."""
        return self._size_divisibility

    def train(self, mode: bool = True) -> "SwinTransformer":
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen.append(self.patch_embed)
        if self.frozen_stages >= 1 and self.ape:
            self.absolute_pos_embed.requires_grad = False
        if self.frozen_stages >= 2:
            frozen += [self.pos_drop, *self.layers[: self.frozen_stages - 1]]
        for module in frozen:
            module.eval().requires_grad_(False)


def shifted_window_mask(
    h: int, w: int, window_size: int, shift_size: int, device: torch.device
) -> Tensor:
    """Return a mask that separates positions in one window only because of the shift (sec. 3.2).

    Returns:
        (windows, P, P), where P = window_size**2: 0 for neighbors and NOT_NEIGHBORS for others, for
        an h x w map that is padded to whole windows and rolled.
    """
    rows = _regions(h, window_size, shift_size, device)
    columns = _regions(w, window_size, shift_size, device)
    regions = 3 * rows[:, None] + columns[None, :]  # (H', W')
    regions = window_partition(regions[None, ..., None], window_size).flatten(1)  # (windows, P)
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill_(apart, NOT_NEIGHBORS)


def _regions(length: int, window_size: int, shift_size: int, device: torch.device) -> Tensor:
    """Return 1 and 2 for the two parts of the last window of a rolled axis, 0 before it."""
    padded = length + -length % window_size
    at = torch.arange(padded, device=device)
    return (at >= padded - window_size).long() + (at >= padded - shift_size).long()


def relative_position_index(h: int, w: int) -> Tensor:
    """Return the rows of the bias table, (h * w, h * w), for each query and key position.

    Positions of a window of h x w count row by row. The table has (2h - 1) * (2w - 1) rows, one for
    each offset from the key to the query (Swin Transformer, sec. 3.2).
    """
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    down = rows[:, None] - rows[None, :] + h - 1
    right = columns[:, None] - columns[None, :] + w - 1
    return down * (2 * w - 1) + right
