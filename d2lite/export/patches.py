"""Replacements for eager code that `torch.export` does not support, used during an export.

The models run eagerly and do not know about exporting. Three things they do are not possible in a
graph with an unknown number of boxes: Python's `len`, which requires a plain number; an assertion
about values; and a choice of algorithm by the number of boxes.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torchvision.ops.boxes
from torch import Tensor

from d2lite.structures import Boxes

ROOMS = ("d2lite.layers", "d2lite.structures", "d2lite.modeling")


@contextmanager
def exportable(modules: Iterable[ModuleType] = ()) -> Iterator[None]:
    """Make detectors exportable by `torch.export` within the `with` block.

    Args:
        modules: a project's modules that use `len` of tensors, boxes or Instances.
    """
    ours = [
        module for name, module in list(sys.modules.items()) if name.startswith(ROOMS) and module
    ]
    with ExitStack() as stack:
        for module in [*ours, *modules]:
            stack.enter_context(mock.patch.object(module, "len", length, create=True))
        stack.enter_context(mock.patch.object(Boxes, "clip", clip_unchecked))
        stack.enter_context(
            mock.patch.object(torchvision.ops.boxes, "batched_nms", batched_nms_by_offset)
        )
        yield


def length(value: Any) -> Any:
    """Return the length, which may be symbolic; Python's `len` requires a plain number."""
    return value.shape[0] if isinstance(value, Tensor) else value.__len__()


def clip_unchecked(boxes: Boxes, box_size: tuple[int, int]) -> None:
    """Clip boxes as `Boxes.clip`, without the assertion that all coordinates are finite."""
    height, width = box_size
    x = boxes.tensor[:, 0::2].clamp(min=0, max=width)  # (N, 2): left, right
    y = boxes.tensor[:, 1::2].clamp(min=0, max=height)  # (N, 2): top, bottom
    boxes.tensor = torch.stack((x, y), dim=2).flatten(1)  # (N, 4)


def batched_nms_by_offset(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """Compute torchvision's `batched_nms` with its offset method, for any number of boxes.

    Each group is shifted to a separate region, so that one NMS keeps the groups apart.
    """
    # The zero keeps the maximum defined if there are no boxes.
    side = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1
    apart = boxes + (idxs.to(boxes) * side)[:, None]
    return torchvision.ops.nms(apart, scores, iou_threshold)
