"""The interface of backbones: named feature maps and their shapes."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from d2lite.layers import ShapeSpec
from d2lite.utils.registry import did_you_mean


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base class of backbones: networks that map images to named feature maps.

    A subclass either overrides `output_shape` or sets `_out_features` (names),
    `_out_feature_channels` and `_out_feature_strides` (by name).
    """

    def __init__(self):
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) images -> (N, Ci, H / stride_i, W / stride_i) features by name."""

    @property
    def size_divisibility(self) -> int:
        """The number that input height and width must be multiples of; 0 if any size works."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further requirements on padding: "size_divisibility" and "square_size", both optional."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map that `forward` returns."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }


def select_features(
    shapes: Mapping[str, ShapeSpec], names: Sequence[str], key: str
) -> list[ShapeSpec]:
    """Return the shapes of the features called `names`, in that order.

    Args:
        key: the config key or argument that holds `names`, for the message.
    Raises:
        ValueError: the backbone lacks a feature; the message lists those it has.
    """
    for name in names:
        if name not in shapes:
            raise ValueError(
                f"{key} asks for feature {name!r}, but the backbone has {list(shapes)}."
                f"{did_you_mean(name, list(shapes))}"
            )
    return [shapes[name] for name in names]
