"""Read the `.weights` files of Darknet.

A file starts with three int32: major, minor and revision of the format, and the number of images
seen in training: int64 from version 0.2 on, int32 before. Then come, as float32, the layers'
parameters in the order of the network: of a convolution with batch norm its bias, scale, running
mean and running variance, then the weights (out, in, height, width); of one without, the bias and
the weights.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.layers import Conv2d

logger = logging.getLogger(__name__)

# Prefix of the single entry of a checkpoint read from such a file, followed by the file's name.
ENTRY = "Darknet file "

# As in Darknet; larger numbers mark transposed matrices of layers that YOLOv3 does not have.
VERSION_WITH_LONG_COUNT = 2


class DarknetFile(NamedTuple):
    """Contents of a `.weights` file."""

    version: tuple[int, int, int]
    """major, minor, revision"""
    images_seen: int
    header_bytes: int
    numbers: Tensor
    """(V,) float32: all parameters"""


def read_darknet_file(path: str | Path) -> DarknetFile:
    """Read a whole file.

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


def read_darknet_checkpoint(filename: str) -> dict[str, Any]:
    """Read a file as a checkpoint.

    The layout of the numbers depends on the model, so they are one entry, which is split when a
    model loads it; see `accept_darknet_files`.

    Raises:
        CheckpointFileError: see `read_darknet_file`.
    """
    return {"model": {ENTRY + filename: read_darknet_file(filename).numbers}}


def accept_darknet_files(model: nn.Module) -> None:
    """Make `model.load_state_dict` accept the result of `read_darknet_checkpoint`.

    The file may contain the whole model or only its backbone. Loading raises a CheckpointFileError
    if the number of parameters fits neither, and a ValueError if the model has norms that Darknet
    does not support.
    """
    model.register_load_state_dict_pre_hook(_divide)


def _divide(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [x for x in state_dict if x.startswith(prefix + ENTRY)]:
        filename = name.removeprefix(prefix + ENTRY)
        weights = _by_name(state_dict.pop(name), model, filename)
        state_dict.update((prefix + key, value) for key, value in weights.items())
        logger.info("%s contains %d entries of the model", filename, len(weights))


def _by_name(numbers: Tensor, model: nn.Module, filename: str) -> dict[str, Tensor]:
    """Return the entries of the model's state dict from the (V,) numbers of a file."""
    layout: list[tuple[str, Tensor]] = []  # in the order of a file
    for name, conv in model.named_modules():
        if isinstance(conv, Conv2d):
            layout += [(f"{name}.{key}", value) for key, value in _values(name, conv)]
    whole = sum(value.numel() for _, value in layout)
    backbone = [entry for entry in layout if entry[0].startswith("backbone.")]
    backbone_alone = sum(value.numel() for _, value in backbone)
    if len(numbers) not in (whole, backbone_alone):
        raise CheckpointFileError(
            f"{filename} has {len(numbers)} numbers of 4 bytes after its header; the model has "
            f"{whole}, its backbone {backbone_alone}. Use a whole file, and the "
            "MODEL.YOLOV3.NUM_CLASSES and MODEL.DARKNET that it was made with"
        )
    chosen = layout if len(numbers) == whole else backbone
    parts = numbers.split([value.numel() for _, value in chosen])
    return {name: part.view_as(value) for (name, value), part in zip(chosen, parts, strict=True)}


def _values(name: str, conv: Conv2d) -> list[tuple[str, Tensor]]:
    if conv.norm is None:
        return [("bias", conv.bias), ("weight", conv.weight)]
    if not hasattr(conv.norm, "running_mean"):
        raise ValueError(
            f"{name} is followed by {type(conv.norm).__name__}, but files of Darknet contain batch "
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
