"""Generate anchors: boxes of fixed sizes and shapes at every cell of the feature maps."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from d2lite.config import configurable
from d2lite.layers import ShapeSpec
from d2lite.structures import Boxes, RotatedBoxes
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import Registry

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR", config_key="MODEL.ANCHOR_GENERATOR.NAME")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """
Anchor generators, called with (cfg, list[ShapeSpec]). `forward` takes L feature maps (N, C, Hi, Wi)
and returns L Boxes with Hi * Wi * A anchors, ordered by row, column, cell anchor.
"""


class BufferList(nn.Module):
    """A list of tensors that move to the module's device but are not in the state dict."""

    def __init__(self, buffers: Sequence[Tensor]):
        """buffers: registered under the names "0", "1", ..."""
        super().__init__()
        for i, buffer in enumerate(buffers):
            self.register_buffer(str(i), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._buffers.values())


class _GridAnchors(nn.Module):
    """Base class of both generators: shifts cell anchors to every cell of L feature maps.

    Anchors are the same at every cell, like the convolutions that predict from them. So a
    translated object is detected in the same way by another cell (translation invariance, Faster
    R-CNN, sec. 3.1.1).
    """

    box_dim: int
    box_type: type[Boxes]

    def __init__(self, strides: list[int], offset: float, *settings: list[Sequence[float]]):
        """Store the settings. settings: arguments of `generate_cell_anchors`, each by level."""
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ArgumentError(f"ANCHOR_GENERATOR.OFFSET is {offset}; it must lie in [0, 1)")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        self.cell_anchors = self._calculate_anchors(*settings)

    def _calculate_anchors(self, *settings: list[Sequence[float]]) -> BufferList:
        """Return the cell anchors of every level."""
        per_level = zip(*settings, strict=True)
        return BufferList([self.generate_cell_anchors(*level) for level in per_level])

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same as `num_anchors`."""
        return self.num_anchors

    @property
    def num_anchors(self) -> list[int]:
        """Anchors per cell, by level."""
        return [len(cell_anchors) for cell_anchors in self.cell_anchors]

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Return the anchors of L feature maps (N, C, Hi, Wi): L times Hi * Wi * A boxes.

        They are ordered by row, column and cell anchor. Every call creates new ones, because some
        programs modify them or replace `cell_anchors`.
        """
        grid_sizes = [tuple(feature.shape[-2:]) for feature in features]
        return [self.box_type(anchors) for anchors in self._grid_anchors(grid_sizes)]

    def _grid_anchors(self, grid_sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Return L tensors (Hi * Wi * A, box_dim)."""
        anchors = []
        for (height, width), stride, base in zip(
            grid_sizes, self.strides, self.cell_anchors, strict=True
        ):
            like = {"dtype": base.dtype, "device": base.device}
            y = (torch.arange(height, **like) + self.offset) * stride
            x = (torch.arange(width, **like) + self.offset) * stride
            y, x = torch.meshgrid(y, x, indexing="ij")
            shifts = self._shift_columns(x.flatten(), y.flatten())  # (H * W, box_dim)
            # Ordered by row, column, cell anchor, like predictions after `permute_to_N_HWA_K`.
            anchors.append((shifts[:, None] + base).reshape(-1, self.box_dim))
        return anchors

    def _shift_columns(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (H * W, box_dim) offsets that move a cell anchor to each cell center."""
        raise NotImplementedError


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(_GridAnchors):
    """Axis-aligned anchors of given sizes and aspect ratios (Faster R-CNN, sec. 3.1.1)."""

    box_dim: int = 4
    """Numbers per box."""
    box_type = Boxes

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.5,
    ):
        """Create the cell anchors.

        Args:
            sizes: by level, the square roots of the anchors' areas in pixels. A single list (nested
                or not) is used for all levels.
            aspect_ratios: height / width, by level or for all.
            strides: pixels per cell, by level.
            offset: position of the anchor center in its cell, in strides: 0 is the top left corner,
                0.5 the middle; 0 <= offset < 1.
        """
        super().__init__(
            strides,
            offset,
            _for_all_levels(sizes, len(strides), "SIZES"),
            _for_all_levels(aspect_ratios, len(strides), "ASPECT_RATIOS"),
        )

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        return {
            "sizes": cfg.MODEL.ANCHOR_GENERATOR.SIZES,
            "aspect_ratios": cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
        }

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Return (A, 4) XYXY boxes around (0, 0), by size, then ratio."""
        sides = [_sides(size, ratio) for size, ratio in itertools.product(sizes, aspect_ratios)]
        return torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides])

    def _shift_columns(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack((x, y, x, y), dim=1)


@ANCHOR_GENERATOR_REGISTRY.register()
class RotatedAnchorGenerator(_GridAnchors):
    """Rotated anchors of given sizes, aspect ratios and angles (RRPN, sec. 3.2)."""

    box_dim: int = 5
    """Numbers per box."""
    box_type = RotatedBoxes

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        angles: Sequence[Sequence[float]],
        offset: float = 0.5,
    ):
        """Create the cell anchors, see `DefaultAnchorGenerator`, at several angles.

        Args:
            angles: degrees counterclockwise, by level or for all.
        """
        super().__init__(
            strides,
            offset,
            _for_all_levels(sizes, len(strides), "SIZES"),
            _for_all_levels(aspect_ratios, len(strides), "ASPECT_RATIOS"),
            _for_all_levels(angles, len(strides), "ANGLES"),
        )

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        return {
            **DefaultAnchorGenerator.from_config(cfg, input_shape),
            "angles": cfg.MODEL.ANCHOR_GENERATOR.ANGLES,
        }

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
        angles: Sequence[float] = (-90, -60, -30, 0, 30, 60, 90),
    ) -> Tensor:
        """Return (A, 5) boxes (0, 0, width, height, angle), by size, then ratio, then angle."""
        kinds = itertools.product(sizes, aspect_ratios, angles)
        return torch.tensor(
            [(0.0, 0.0, *_sides(size, ratio), angle) for size, ratio, angle in kinds]
        )

    def _shift_columns(self, x: Tensor, y: Tensor) -> Tensor:
        zero = torch.zeros_like(x)  # width, height and angle stay
        return torch.stack((x, y, zero, zero, zero), dim=1)


def build_anchor_generator(cfg, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the generator named by MODEL.ANCHOR_GENERATOR.NAME, for features of these shapes."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)


def _sides(size: float, aspect_ratio: float) -> tuple[float, float]:
    """Return (width, height) of a box with area size**2 and height / width = aspect_ratio.

    All aspect ratios of a size have the same area, so they match objects of the same scale.
    """
    width = math.sqrt(size**2 / aspect_ratio)
    return width, aspect_ratio * width


def _for_all_levels(values: Sequence, num_levels: int, name: str) -> list[Sequence[float]]:
    """Return one list of values per level; a single list, nested or not, is used for all."""
    key = f"MODEL.ANCHOR_GENERATOR.{name}"
    if not isinstance(values, Sequence) or len(values) == 0:
        raise ArgumentError(f"{key} must be a list with at least one value, found {values!r}")
    if not isinstance(values[0], Sequence):
        return [values] * num_levels
    if len(values) == 1:
        return list(values) * num_levels
    if len(values) != num_levels:
        raise ArgumentError(
            f"{key} has {len(values)} lists for {num_levels} feature maps; "
            "give one for each, or one for all"
        )
    return list(values)
