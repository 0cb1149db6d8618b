"""Windows, patches and position embeddings that the transformer backbones share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Cut images into patches and embed each, by one strided convolution."""

    def __init__(
        self,
        kernel_size: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (16, 16),
        padding: tuple[int, int] = (0, 0),
        in_chans: int = 3,
        embed_dim: int = 768,
    ):
        """embed_dim: channels of a patch's embedding."""
        super().__init__()
        self.proj = nn.Conv2d(
            in_chans, embed_dim, kernel_size=kernel_size, stride=stride, padding=padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, H', W', embed_dim)."""
        return self.proj(x).permute(0, 2, 3, 1)


def window_partition(x: Tensor, window_size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut feature maps into square windows, padding right and bottom with zeros where needed.

    Args:
        x: (N, H, W, C).
    Returns:
        (N * windows, window_size, window_size, C), and the padded (H, W).
    """
    n, h, w, c = x.shape
    pad_h, pad_w = -h % window_size, -w % window_size
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    padded_h, padded_w = h + pad_h, w + pad_w
    x = x.view(n, padded_h // window_size, window_size, padded_w // window_size, window_size, c)
    windows = x.transpose(2, 3).reshape(-1, window_size, window_size, c)
    return windows, (padded_h, padded_w)


def window_unpartition(
    windows: Tensor, window_size: int, pad_hw: tuple[int, int], hw: tuple[int, int]
) -> Tensor:
    """Undo `window_partition`.

    Args:
        windows: (N * windows, window_size, window_size, C).
        pad_hw: the padded (H, W) that `window_partition` returned.
        hw: the (H, W) before padding.
    Returns:
        (N, H, W, C).
    """
    rows, columns = pad_hw[0] // window_size, pad_hw[1] // window_size
    n = windows.shape[0] // (rows * columns)
    x = windows.view(n, rows, columns, window_size, window_size, -1)
    x = x.transpose(2, 3).reshape(n, *pad_hw, -1)  # (N, padded H, padded W, C)
    return x[:, : hw[0], : hw[1]].contiguous()


def get_rel_pos(q_size: int, k_size: int, rel_pos: Tensor) -> Tensor:
    """Return relative position embeddings for every pair of a query and a key along one axis.

    Args:
        q_size, k_size: numbers of queries and keys along the axis; they span the same length.
        rel_pos: (D, C) embeddings by distance; resized linearly to 2 * max(sizes) - 1 of them.
    Returns:
        (q_size, k_size, C).
    """
    distances = 2 * max(q_size, k_size) - 1
    if rel_pos.shape[0] != distances:
        resized = F.interpolate(rel_pos.t()[None], size=distances, mode="linear")  # (1, C, D')
        rel_pos = resized[0].t()
    # The coarser axis is stretched, so that both count in units of the finer one.
    q_step, k_step = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    q_at = torch.arange(q_size, device=rel_pos.device)[:, None] * q_step
    k_at = torch.arange(k_size, device=rel_pos.device)[None, :] * k_step
    return rel_pos[(q_at - k_at + (k_size - 1) * k_step).long()]


def decomposed_rel_pos(
    q: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> Tensor:
    """Return the terms of relative positions in the attention logits (MViTv2, eq. 4 and 5).

    Args:
        q: (B, q_h * q_w, C) queries.
        rel_pos_h, rel_pos_w: (D, C) embeddings by distance, see `get_rel_pos`.
        q_size, k_size: (H, W) of queries and keys.
    Returns:
        (B, q_h * q_w, k_h * k_w).
    """
    (q_h, q_w), (k_h, k_w) = q_size, k_size
    q = q.reshape(-1, q_h, q_w, q.shape[-1])
    by_row = torch.einsum("bhwc,hkc->bhwk", q, get_rel_pos(q_h, k_h, rel_pos_h))
    by_column = torch.einsum("bhwc,wkc->bhwk", q, get_rel_pos(q_w, k_w, rel_pos_w))
    both = by_row[..., :, None] + by_column[..., None, :]  # (B, q_h, q_w, k_h, k_w)
    return both.reshape(-1, q_h * q_w, k_h * k_w)


def get_abs_pos(abs_pos: Tensor, has_cls_token: bool, hw: tuple[int, int]) -> Tensor:
    """Resize absolute position embeddings to a grid of another size.

    Args:
        abs_pos: (1, side * side, C), with one more in front if there is a class token.
        has_cls_token: whether the first one is the class token's; it is dropped.
        hw: (H, W) of the wanted grid.
    Returns:
        (1, H, W, C).
    Raises:
        ValueError: when the embeddings do not form a square.
    """
    if has_cls_token:
        abs_pos = abs_pos[:, 1:]
    side = math.isqrt(abs_pos.shape[1])
    if side * side != abs_pos.shape[1]:
        raise ValueError(f"{abs_pos.shape[1]} position embeddings do not form a square grid")
    grid = abs_pos.reshape(1, side, side, -1)
    if (side, side) == tuple(hw):
        return grid
    resized = F.interpolate(
        grid.permute(0, 3, 1, 2), size=tuple(hw), mode="bicubic", align_corners=False
    )
    return resized.permute(0, 2, 3, 1)
