"""Parts that the transformer backbones ViT, Swin and MViT share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from d2lite.modeling.backbone.utils import decomposed_rel_pos


class Mlp(nn.Module):
    """Two linear layers with an activation in between."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop: float = 0.0,
    ):
        """hidden_features and out_features are in_features by default; drop: dropout of both."""
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


def attend_with_rel_pos(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_pos: tuple[Tensor, Tensor] | None,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> Tensor:
    """Softmax attention on grids, with decomposed relative positions (MViTv2, eq. 4 and 5).

    Args:
        q, k, v: (B, heads, q_h * q_w or k_h * k_w, C).
        rel_pos: embeddings by distance along H and along W, (D, C) each; None leaves them out.
        q_size, k_size: (H, W) of queries and keys.
    Returns:
        (B, heads, q_h * q_w, C).
    """
    bias = None
    if rel_pos is not None:
        bias = decomposed_rel_pos(q.flatten(0, 1), *rel_pos, q_size, k_size)
        bias = bias.to(q.dtype).view(*q.shape[:2], *bias.shape[1:])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def drop_path_layer(rate: float) -> nn.Module:
    """Return a layer that drops its input for a fraction `rate` of the samples in training."""
    return StochasticDepth(rate, mode="row") if rate > 0 else nn.Identity()


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Return rates for `drop_path_layer` that grow linearly from 0 at the first block to `last`."""
    # In float32, because the rounding of rates matters: remaining samples are divided by 1 - rate.
    # On the CPU, because a model may be built on the meta device.
    return torch.linspace(0, last, depth, device="cpu").tolist()


def init_layer(module: nn.Module) -> None:
    """Initialize linear layers and layer norms as ViT does (Dosovitskiy et al. 2021)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def init_weights(backbone: nn.Module) -> None:
    """Initialize a whole backbone: `pos_embed`, if it has one, then every layer by `init_layer`.

    Call it after all layers are created: in this order, a seed gives detectron2's weights.
    """
    if backbone.pos_embed is not None:
        nn.init.trunc_normal_(backbone.pos_embed, std=0.02)
    backbone.apply(init_layer)


def maybe_checkpoint(block: nn.Module, wanted: bool, *args) -> Tensor:
    """Call `block`; if `wanted`, recompute activations in the backward pass, to save memory."""
    if wanted and block.training:
        return checkpoint(block, *args, use_reentrant=False)
    return block(*args)
