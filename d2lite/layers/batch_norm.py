"""Normalization layers under detectron2's names."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import UnknownNameError


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are constants (buffers, never trained).

    Computes (x - running_mean) / sqrt(running_var + eps) * weight + bias. Fresh buffers make it
    the identity.
    """

    # 2: running_mean and running_var exist; 3: running_var is used with eps added.
    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5):
        """num_features: C of the (N, C, H, W) input."""
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return the two (C,) constants of y = x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and dtype."""
        if x.requires_grad:
            # F.batch_norm would keep x for the backward pass; this keeps the scale only.
            scale, shift = (c.to(x.dtype).view(1, -1, 1, 1) for c in self.scale_and_shift())
            return torch.addcmul(shift, x, scale)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        version = local_metadata.get("version")
        mean, var = prefix + "running_mean", prefix + "running_var"
        if version is None or version < 2:  # files of other packages have no version
            state_dict.setdefault(mean, torch.zeros_like(self.running_mean))
            state_dict.setdefault(var, torch.ones_like(self.running_var))
        elif version < 3 and var in state_dict:
            state_dict[var] = state_dict[var] - self.eps
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every batch norm inside `module` by a frozen one with the same values.

        Returns:
            The new layer when `module` itself is a batch norm, else `module`, changed in place.
        """
        return _replace_modules(module, (nn.BatchNorm2d, nn.SyncBatchNorm), cls._from_batch_norm)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Replace every frozen batch norm inside `module` by a trainable one with the same values.

        Returns:
            The new layer when `module` itself is frozen, else `module`, changed in place.
        """
        return _replace_modules(module, (FrozenBatchNorm2d,), _thawed)

    @classmethod
    def _from_batch_norm(cls, norm: nn.Module) -> "FrozenBatchNorm2d":
        frozen = cls(norm.num_features, norm.eps).to(norm.running_mean.device)
        _copy_values(norm, frozen)
        # Checkpoints of converted models contain the counter.
        frozen.register_buffer("num_batches_tracked", norm.num_batches_tracked)
        return frozen.train(norm.training)


def _thawed(frozen: FrozenBatchNorm2d) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(frozen.num_features, frozen.eps).to(frozen.running_mean.device)
    _copy_values(frozen, norm)
    return norm.train(frozen.training)


@torch.no_grad()
def _copy_values(source: nn.Module, target: nn.Module) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(source, name)
        if value is not None:  # a batch norm with affine=False has no weight and bias
            getattr(target, name).copy_(value)


def _replace_modules(
    module: nn.Module, types: tuple[type, ...], replace: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    if isinstance(module, types):
        return replace(module)
    for name, child in module.named_children():
        setattr(module, name, _replace_modules(child, types, replace))
    return module


class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes, with statistics from a differentiable all-reduce.

    With `stats_mode` "N" it accepts, unlike torch's SyncBatchNorm, a different batch size on each
    process, including 0. When all batches are empty, the running statistics stay unchanged.
    """

    def __init__(self, *args, stats_mode: str = "", **kwargs):
        """stats_mode: "" weights all processes equally, "N" in proportion to their batch sizes."""
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ArgumentError(f"stats_mode is {stats_mode!r}; use '' or 'N'")
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; statistics of the other processes in training only."""
        if not self.training or _world_size() == 1:
            return super().forward(input)
        x = input.float()
        mean, mean_of_square, momentum = self._global_statistics(x)
        var = mean_of_square - mean * mean
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        with torch.no_grad():
            self.running_mean += momentum * (mean.detach() - self.running_mean)
            self.running_var += momentum * (var.detach() - self.running_var)
        return (x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(input.dtype)

    def _global_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return each channel's mean and mean square over all processes, and the momentum."""
        batch, channels = x.shape[:2]
        if self._stats_mode == "":
            assert batch > 0, 'stats_mode "" cannot take an empty batch; use "N"'
            sums = all_reduce(_moments(x)) / _world_size()
            return *sums.split(channels), self.momentum
        if batch > 0:
            moments = torch.cat([_moments(x), x.new_ones(1)]) * batch
        else:
            # The sum of the empty input, 0, keeps it in the graph: every process must run backward.
            moments = x.new_zeros(2 * channels + 1) + x.sum()
        moments = all_reduce(moments)
        total = moments[-1].detach()
        mean, mean_of_square = (moments[:-1] / total.clamp(min=1)).split(channels)
        return mean, mean_of_square, total.clamp(max=1) * self.momentum


def _moments(x: Tensor) -> Tensor:
    """Return the (2 * C,) means and mean squares of the channels of x."""
    return torch.cat([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))])


def _world_size() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


class CycleBatchNormList(nn.ModuleList):
    """Batch norms used in turn, one per call, with one weight and bias for all.

    A head that is applied to several feature levels keeps statistics of each level this way.
    """

    def __init__(self, length: int, bn_class: type[nn.Module] = nn.BatchNorm2d, **kwargs):
        """length: calls per cycle, such as the number of levels. kwargs: those of `bn_class`."""
        self._affine = kwargs.pop("affine", True)
        super().__init__([bn_class(**kwargs, affine=False) for _ in range(length)])
        if self._affine:
            channels = self[0].num_features
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        self._pos = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape, by the next norm of the cycle."""
        x = self[self._pos](x)
        self._pos = (self._pos + 1) % len(self)
        if not self._affine:
            return x
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer norm over the channels of each position of an (N, C, H, W) map."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6):
        """normalized_shape: C."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        channels_last = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        normed = F.layer_norm(
            channels_last, self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normed.permute(0, 3, 1, 2)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": partial(nn.GroupNorm, 32),
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": partial(NaiveSyncBatchNorm, stats_mode="N"),
    "LN": LayerNorm,
}


class UnknownNormError(UnknownNameError, ValueError):
    """Unknown name of a norm layer: a KeyError, as detectron2 raises, and a ValueError."""


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Make the norm layer of a convolution.

    Args:
        norm: a name of `NORMS`, "" or None for no norm, or a callable that takes `out_channels`.
        out_channels: C of the map to normalize.
    Raises:
        UnknownNormError: for an unknown name, with the known ones.
    """
    if norm is None or norm == "":
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm not in NORMS:
        raise UnknownNormError(f"norm is {norm!r}; use one of {['', *NORMS]}")
    return NORMS[norm](out_channels)
