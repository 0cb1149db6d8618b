"""Pasting the masks of detected objects into the image.

Bilinear sampling on an upright grid is separable: a pasted mask is A m B, with the mask m and a
sparse matrix for each axis. Two small matrix products do what a gather of every pixel would.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from d2lite.utils.errors import ArgumentError

if TYPE_CHECKING:
    from d2lite.structures import Boxes

BYTES_PER_FLOAT = 4
GPU_MEM_LIMIT = 1024**3  # bytes of full-image float masks held at a time


def paste_masks_in_image(
    masks: Tensor,
    boxes: "Boxes | Tensor",
    image_shape: tuple[int, int],
    threshold: float = 0.5,
) -> Tensor:
    """Resize each mask to its box and place it in an image of zeros.

    Args:
        masks: (R, m, m) values in [0, 1], sampled with half-pixel centers and zeros outside.
        boxes: `Boxes` or (R, 4) XYXY in the image. A mask ends one pixel outside its box.
        image_shape: (height, width) of the image.
        threshold: values at or above it are foreground; a negative one gives soft masks.
    Returns:
        (R, height, width): bool, or uint8 values of 0 to 255 for a negative threshold.
    """
    if masks.shape[-1] != masks.shape[-2]:
        raise ArgumentError(f"masks must be square to be pasted, got shape {tuple(masks.shape)}")
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    height, width = image_shape
    dtype = torch.bool if threshold >= 0 else torch.uint8
    pasted = torch.zeros(len(masks), height, width, dtype=dtype, device=masks.device)
    paste = _paste_one_by_one if masks.device.type == "cpu" else _paste_whole_images
    paste(pasted, masks.float(), boxes.float(), threshold)
    return pasted


def _paste_one_by_one(pasted: Tensor, masks: Tensor, boxes: Tensor, threshold: float) -> None:
    """Compute only the pixels inside each box; on a CPU those outside would cost the most."""
    height, width = pasted.shape[1:]
    limit = boxes.new_tensor([width, height])
    first = torch.minimum((boxes[:, :2].floor() - 1).clamp(min=0), limit).long()
    last = torch.minimum((boxes[:, 2:].ceil() + 1).clamp(min=0), limit).long()
    last = torch.maximum(last, first)  # a box may have x1 < x0 or y1 < y0
    longest_x, longest_y = (last - first).amax(dim=0).tolist() if len(boxes) else (0, 0)
    pixels_x = first[:, :1] + torch.arange(longest_x)  # (R, longest)
    pixels_y = first[:, 1:] + torch.arange(longest_y)
    columns = _axis_weights(boxes[:, 0:1], boxes[:, 2:3], pixels_x, masks.shape[-1])
    rows = _axis_weights(boxes[:, 1:2], boxes[:, 3:4], pixels_y, masks.shape[-1])
    for i, (x0, y0, x1, y1) in enumerate(torch.cat([first, last], dim=1).tolist()):
        values = rows[i, : y1 - y0] @ masks[i] @ columns[i, : x1 - x0].T
        pasted[i, y0:y1, x0:x1] = _quantized(values, threshold)


def _paste_whole_images(pasted: Tensor, masks: Tensor, boxes: Tensor, threshold: float) -> None:
    """Compute the whole image of many masks at once, which suits a GPU."""
    height, width = pasted.shape[1:]
    x, y = (torch.arange(size, device=masks.device) for size in (width, height))
    bytes_per_mask = 2 * BYTES_PER_FLOAT * max(height * width, 1)
    size = max(1, GPU_MEM_LIMIT // bytes_per_mask)
    for image, mask, box in zip(
        pasted.split(size), masks.split(size), boxes[:, :, None].split(size), strict=True
    ):
        rows = _axis_weights(box[:, 1], box[:, 3], y, mask.shape[-1])
        columns = _axis_weights(box[:, 0], box[:, 2], x, mask.shape[-1])
        image.copy_(_quantized(rows @ mask @ columns.mT, threshold))


def _quantized(values: Tensor, threshold: float) -> Tensor:
    return values >= threshold if threshold >= 0 else (values * 255).to(torch.uint8)


def _axis_weights(start: Tensor, end: Tensor, pixels: Tensor, cells: int) -> Tensor:
    """Return the weight of each mask cell in each pixel along one axis.

    Args:
        start, end: (R, 1) sides of the boxes, in pixels.
        pixels: (S,) or (R, S) indices of pixels.
        cells: m, the number of mask cells along this axis.
    Returns:
        (R, S, m): two values that sum to 1 inside the mask, and zeros beyond its border.
    """
    centers = pixels + 0.5
    position = (centers - start) / (end - start) * cells - 0.5  # (R, S)
    distance = position[..., None] - torch.arange(cells, device=pixels.device)
    weights = (1 - distance.abs()).clamp(min=0)
    # Masks are clipped to the pixels that their boxes touch and one more, on every device.
    near = (centers > start.floor() - 1) & (centers < end.ceil() + 1)
    return torch.where(near[..., None], weights, 0.0)
