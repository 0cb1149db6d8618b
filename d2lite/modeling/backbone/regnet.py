"""RegNet (Radosavovic et al. 2020): stage widths that follow a quantized linear function."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

from d2lite.layers import CNNBlockBase
from d2lite.modeling.backbone.backbone import Backbone
from d2lite.modeling.backbone.regnet_blocks import (
    SE as SE,
    AnyStage,
    BasicTransform as BasicTransform,
    BottleneckTransform as BottleneckTransform,
    ResBasicBlock as ResBasicBlock,
    ResBottleneckBlock as ResBottleneckBlock,
    ResStem as ResStem,
    SimpleStem as SimpleStem,
    conv2d as conv2d,
    gap2d as gap2d,
    init_weights,
    pool2d as pool2d,
)
from d2lite.utils.errors import ArgumentError

Norm = str | Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class AnyNet(Backbone):
    """A stem and stages of any depth and width, called "stem", "s1", "s2" and so on."""

    def __init__(
        self,
        *,
        stem_class: type[CNNBlockBase],
        stem_width: int,
        block_class: type[CNNBlockBase],
        depths: Sequence[int],
        widths: Sequence[int],
        group_widths: Sequence[int],
        strides: Sequence[int],
        bottleneck_ratios: Sequence[float],
        se_ratio: float,
        activation_class: Activation | None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ):
        """Build all stages; each sequence has one value for each of them.

        Args:
            depths: number of blocks.
            group_widths: channels of a group of the 3 x 3 convolutions.
            bottleneck_ratios: width of the 3 x 3 convolutions, relative to the stage's width.
            se_ratio: channels of squeeze and excitation, relative to the block's input; 0 for none.
            activation_class: makes an activation; ReLU when None.
            freeze_at: how many parts to freeze, the stem being the first.
            out_features: names of the features to return; by default the last stage.
        Raises:
            ValueError: the sequences differ in length, or a name is unknown.
        """
        super().__init__()
        activation_class = activation_class or partial(nn.ReLU, inplace=True)
        per_stage = (depths, widths, strides, bottleneck_ratios, group_widths)
        if len({len(values) for values in per_stage}) != 1:
            raise ValueError(
                "depths, widths, strides, bottleneck_ratios and group_widths need one value for "
                f"each stage; they have {[len(values) for values in per_stage]}"
            )
        self.stem = stem_class(3, stem_width, norm, activation_class)
        channels, stride = stem_width, self.stem.stride
        self._out_feature_channels = {"stem": channels}
        self._out_feature_strides = {"stem": stride}
        self.stages_and_names: list[tuple[AnyStage, str]] = []
        for i, (d, w, s, ratio, group) in enumerate(zip(*per_stage, strict=True), start=1):
            params = {"bot_mul": ratio, "group_w": group, "se_r": se_ratio}
            stage = AnyStage(channels, w, s, d, block_class, norm, activation_class, params)
            channels, stride, name = w, stride * s, f"s{i}"
            self.add_module(name, stage)
            self.stages_and_names.append((stage, name))
            self._out_feature_channels[name] = channels
            self._out_feature_strides[name] = stride
        self.apply(init_weights)
        known = list(self._out_feature_strides)
        self._out_features = [known[-1]] if out_features is None else list(out_features)
        if not self._out_features or not set(self._out_features) <= set(known):
            raise ValueError(f"out_features is {self._out_features}; use one or more of {known}")
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the requested features by name, (N, Ci, H / stride_i, W / stride_i)."""
        if x.dim() != 4:
            raise ArgumentError(f"RegNet takes images of shape (N, C, H, W), got {tuple(x.shape)}")
        x = self.stem(x)
        outputs = {"stem": x}
        for stage, name in self.stages_and_names:
            x = stage(x)
            outputs[name] = x
        return {name: outputs[name] for name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> "AnyNet":
        """Freeze the first `freeze_at` parts: 1 is the stem, 2 the stem and s1, and so on."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage, _ in self.stages_and_names[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                block.freeze()
        return self


class RegNet(AnyNet):
    """Network whose widths and depths follow from four numbers (eq. 2 to 4 of the paper)."""

    def __init__(
        self,
        *,
        stem_class: type[CNNBlockBase],
        stem_width: int,
        block_class: type[CNNBlockBase],
        depth: int,
        w_a: float,
        w_0: int,
        w_m: float,
        group_width: int,
        stride: int = 2,
        bottleneck_ratio: float = 1.0,
        se_ratio: float = 0.0,
        activation_class: Activation | None = None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ):
        """Derive the stages; see `AnyNet` for the other arguments.

        Args:
            depth: total number of blocks.
            w_a, w_0: slope and start of the line that widths follow.
            w_m: ratio of the widths of neighboring stages, before rounding.
            stride: of every stage.
        """
        widths, depths = generate_regnet_parameters(w_a, w_0, w_m, depth)[:2]
        stages = len(widths)
        widths, ratios, groups = adjust_block_compatibility(
            widths, [bottleneck_ratio] * stages, [group_width] * stages
        )
        super().__init__(
            stem_class=stem_class,
            stem_width=stem_width,
            block_class=block_class,
            depths=depths,
            widths=widths,
            group_widths=groups,
            strides=[stride] * stages,
            bottleneck_ratios=ratios,
            se_ratio=se_ratio,
            activation_class=activation_class,
            freeze_at=freeze_at,
            norm=norm,
            out_features=out_features,
        )


def generate_regnet_parameters(
    w_a: float, w_0: int, w_m: float, d: int, q: int = 8
) -> tuple[list[int], list[int], int, int, list[int], list[float]]:
    """Compute the widths of d blocks: w_0 + w_a * i, rounded to w_0 times a power of w_m.

    Args:
        q: widths are also rounded to multiples of q.
    Returns:
        Six values: per stage, its width and its number of blocks; the number of stages; their
        number if none were empty; and per block, its width after and before quantization.
    Raises:
        ValueError: the widths would not grow, or w_0 is not a multiple of q.
    """
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % q:
        raise ArgumentError(
            f"RegNet needs w_a >= 0, w_0 a positive multiple of {q} and w_m > 1; "
            f"got w_a {w_a}, w_0 {w_0}, w_m {w_m}"
        )
    on_line = w_0 + w_a * np.arange(d)  # (d,)
    exponents = np.round(np.log(on_line / w_0) / np.log(w_m))
    per_block = (np.round(w_0 * w_m**exponents / q) * q).astype(int)
    widths, depths = np.unique(per_block, return_counts=True)
    possible_stages = int(exponents.max()) + 1
    return (
        widths.tolist(),
        depths.tolist(),
        len(widths),
        possible_stages,
        per_block.tolist(),
        on_line.tolist(),
    )


def adjust_block_compatibility(
    ws: Sequence[int], bs: Sequence[float], gs: Sequence[int]
) -> tuple[list[int], Sequence[float], list[int]]:
    """Change widths so that the groups of every stage divide the width of its 3 x 3 convolutions.

    Args:
        ws: widths; bs: ratios of the 3 x 3 convolutions to them, whole numbers where above 1;
        gs: widths of a group. One value for each stage.
    Returns:
        Adjusted widths, the given ratios, and adjusted group widths.
    Raises:
        ValueError: a value is not positive, or a ratio above 1 is not a whole number.
    """
    if min([*ws, *bs, *gs]) <= 0 or any(b > 1 and b != int(b) for b in bs):
        raise ArgumentError(
            "widths, bottleneck ratios and group widths must be positive, and ratios above 1 "
            f"whole numbers; got {list(ws)}, {list(bs)}, {list(gs)}"
        )
    widths, groups = [], []
    for w, b, g in zip(ws, bs, gs, strict=True):
        inner = max(1, int(w * b))
        g = min(g, inner)
        step = int(np.lcm(g, int(b))) if b > 1 else g
        inner = max(step, round(inner / step) * step)
        widths.append(int(inner / b))
        groups.append(g)
    return widths, bs, groups
