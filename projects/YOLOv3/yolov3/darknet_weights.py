"""Read the `.weights` files of Darknet.

A file starts with three int32: major, minor and revision of the format, and the number of images
seen in training: int64 from version 0.2 on, int32 before. Then come, as float32, the layers'
parameters in the order of the network: of a convolution with batch norm its bias, scale, running
mean and running variance, then the weights (out, in, height, width); of one without, the bias and
the weights.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.layers import Conv2d

__all__ = ["DarknetFile", "read_darknet_file", "read_darknet_weights"]

# Darknet's own test; larger numbers mark transposed matrices of layers that YOLOv3 lacks.
VERSION_WITH_LONG_COUNT = 2


class DarknetFile(NamedTuple):
    """What is in a `.weights` file."""

    version: tuple[int, int, int]
    """major, minor, revision"""
    images_seen: int
    header_bytes: int
    numbers: Tensor
    """(V,) float32: all parameters"""


def read_darknet_file(path: str | Path) -> DarknetFile:
    """Read a file whole.

    Raises:
        CheckpointFileError: it ends within the header or within a number.
    """
    data = Path(path).read_bytes()
    version = np.frombuffer(data[:12], dtype="<i4") if len(data) >= 12 else [0, 0, 0]
    major, minor, revision = (int(x) for x in version)
    count = "<i8" if major * 10 + minor >= VERSION_WITH_LONG_COUNT else "<i4"
    header_bytes = 12 + np.dtype(count).itemsize
    if len(data) < header_bytes or (len(data) - header_bytes) % 4:
        raise CheckpointFileError(
            f"{path} has {len(data)} bytes; a Darknet file has a header of {header_bytes} and "
            "4 for each number. Copy or download it again"
        )
    return DarknetFile(
        (major, minor, revision),
        int(np.frombuffer(data[12:header_bytes], dtype=count)[0]),
        header_bytes,
        torch.from_numpy(np.frombuffer(data, dtype="<f4", offset=header_bytes).copy()),
    )


def read_darknet_weights(path: str | Path, model: nn.Module) -> dict[str, Tensor]:
    """Read a file for a YOLOv3, or for its backbone alone.

    Args:
        path: such as yolov3.weights or darknet53.conv.74.
        model: says the order, names and shapes; it is left alone.
    Returns:
        entries of the model's state dict.
    Raises:
        CheckpointFileError: the file has another number of parameters than model and backbone;
            says the sizes.
        ValueError: the model has norms that Darknet does not know.
    """
    file = read_darknet_file(path)
    layout = _layout(model)
    whole = sum(value.numel() for _, value in layout)
    backbone = [entry for entry in layout if entry[0].startswith("backbone.")]
    backbone_alone = sum(value.numel() for _, value in backbone)
    found = len(file.numbers)
    if found not in (whole, backbone_alone):
        raise CheckpointFileError(
            f"{path} has {found} numbers behind its header ({4 * found + file.header_bytes} bytes "
            f"in all); the model has {whole} ({4 * whole + file.header_bytes} bytes), its backbone "
            f"{backbone_alone} ({4 * backbone_alone + file.header_bytes} bytes). Use a whole file, "
            "and the MODEL.YOLOV3.NUM_CLASSES and MODEL.DARKNET that it was made with"
        )
    chosen = layout if found == whole else backbone
    parts = file.numbers.split([value.numel() for _, value in chosen])
    return {
        name: part.view(value.shape).clone()
        for (name, value), part in zip(chosen, parts, strict=True)
    }


def _layout(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and values of the model, in the order of a file."""
    entries: list[tuple[str, Tensor]] = []
    for name, conv in model.named_modules():
        if isinstance(conv, Conv2d):
            entries += [(f"{name}.{key}", value) for key, value in _values(name, conv)]
    return entries


def _values(name: str, conv: Conv2d) -> list[tuple[str, Tensor]]:
    if conv.norm is None:
        return [("bias", conv.bias), ("weight", conv.weight)]
    if not hasattr(conv.norm, "running_mean"):
        raise ValueError(
            f"{name} is followed by {type(conv.norm).__name__}, but files of Darknet hold batch "
            "norms; set MODEL.DARKNET.NORM to 'BN'"
        )
    norm = conv.norm
    return [
        ("norm.bias", norm.bias),
        ("norm.weight", norm.weight),
        ("norm.running_mean", norm.running_mean),
        ("norm.running_var", norm.running_var),
        ("weight", conv.weight),
    ]
