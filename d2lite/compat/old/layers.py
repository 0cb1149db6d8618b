"""Old forms of detectron2's layers, and its replacements of operators missing in old torch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.autograd import Function
from torchvision.ops import deform_conv2d

from d2lite.layers.mask_ops import paste_masks_in_image
from d2lite.layers.roi_align_rotated import roi_align_rotated
from d2lite.structures import Boxes


class _NewEmptyTensorOp(Function):
    """An empty tensor that gradients flow through; torch's layers now handle this themselves."""

    @staticmethod
    def forward(ctx, x: Tensor, new_shape: tuple[int, ...]) -> Tensor:
        """Return an empty tensor of `new_shape`, with dtype and device of `x`."""
        ctx.shape = x.shape
        return x.new_empty(new_shape)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        """Return an empty tensor of the shape of `x`."""
        return _NewEmptyTensorOp.apply(grad, ctx.shape), None


def deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deformable_groups: int = 1,
    im2col_step: int = 64,
) -> Tensor:
    """Convolve at offset positions; `DeformConv` is the layer.

    Args:
        groups, deformable_groups: must match `weight` and `offset`, whose shapes determine them.
        im2col_step: not used: torchvision's operator chooses its own.
    """
    return deform_conv2d(input, offset, weight, stride=stride, padding=padding, dilation=dilation)


def modulated_deform_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """Convolve at offset and weighted positions; `ModulatedDeformConv` is the layer.

    Args:
        groups, deformable_groups: must match `weight` and `offset`, whose shapes determine them.
    """
    return deform_conv2d(
        input, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )


class _DeformConv:
    """`_DeformConv.apply` is `deform_conv`."""

    apply = staticmethod(deform_conv)


class _ModulatedDeformConv:
    """`_ModulatedDeformConv.apply` is `modulated_deform_conv`."""

    apply = staticmethod(modulated_deform_conv)


class _ROIAlignRotated:
    """`_ROIAlignRotated.apply` is `roi_align_rotated`."""

    apply = staticmethod(roi_align_rotated)


def _do_paste_mask(
    masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True
) -> tuple[Tensor, tuple]:
    """Resize soft masks to their boxes by bilinear sampling, without a threshold.

    Args:
        masks: (N, 1, H, W) values in [0, 1].
        boxes: (N, 4) XYXY.
        skip_empty: only sample the part of the image that the boxes cover.
    Returns:
        (N, h, w) values, and the slices of rows and columns that they cover, or () for the whole
        image.
    """
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)  # (N, 1) each
    rows, columns = slice(0, int(img_h)), slice(0, int(img_w))
    if skip_empty:
        first = (boxes[:, :2].floor().amin(dim=0) - 1).clamp(min=0).int().tolist()
        last = (boxes[:, 2:].ceil().amax(dim=0) + 1).int().tolist()
        rows = slice(first[1], min(last[1], int(img_h)))
        columns = slice(first[0], min(last[0], int(img_w)))
    y = torch.arange(rows.start, rows.stop, device=masks.device, dtype=torch.float32) + 0.5
    x = torch.arange(columns.start, columns.stop, device=masks.device, dtype=torch.float32) + 0.5
    y = (y - y0) / (y1 - y0) * 2 - 1  # (N, h): -1 and 1 are the edges of the box
    x = (x - x0) / (x1 - x0) * 2 - 1  # (N, w)
    grid = torch.stack(
        [x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], dim=3
    )
    values = F.grid_sample(masks.to(torch.float32), grid.to(torch.float32), align_corners=False)
    return values[:, 0], (rows, columns) if skip_empty else ()


def _paste_masks_tensor_shape(
    masks: Tensor,
    boxes: Boxes | Tensor,
    image_shape: tuple[Tensor, Tensor],
    threshold: float = 0.5,
) -> Tensor:
    """Paste masks into an image whose sides are tensors; see `paste_masks_in_image`."""
    height, width = (int(side) for side in image_shape)
    return paste_masks_in_image(masks, boxes, (height, width), threshold)


def paste_mask_in_image_old(
    mask: Tensor, box: Tensor, img_h: int, img_w: int, threshold: float
) -> Tensor:
    """Paste one mask the way Detectron did, with boxes rounded to whole pixels.

    Args:
        mask: (m, m) values in [0, 1].
        box: (4,) XYXY; its last pixel counts as inside.
        img_h, img_w: size of the image.
        threshold: larger values become 1; if negative, the mask has values 0 to 255 instead.
    Returns:
        (img_h, img_w) uint8.
    """
    x0, y0, x1, y1 = box.to(torch.int32).tolist()
    size = (max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1))
    resized = np.array(Image.fromarray(mask.cpu().numpy()).resize(size, Image.Resampling.BILINEAR))
    values = resized > threshold if threshold >= 0 else resized * 255
    values = torch.from_numpy(values.astype(np.uint8))
    pasted = torch.zeros(img_h, img_w, dtype=torch.uint8)
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x1 + 1, img_w), min(y1 + 1, img_h)
    if right > left and bottom > top:
        pasted[top:bottom, left:right] = values[top - y0 : bottom - y0, left - x0 : right - x0]
    return pasted


def pad_masks(masks: Tensor, padding: int) -> tuple[Tensor, float]:
    """Pad (R, m, m) masks with `padding` zeros on each side; also return their scale factor."""
    padded = torch.nn.functional.pad(masks, (padding,) * 4)
    return padded, padded.shape[-1] / masks.shape[-1]


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Scale (R, 4) XYXY boxes by a factor around their centers."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return torch.cat([center - half, center + half], dim=1)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Return the indices of the elements that are not zero: one (K,) int64 tensor per dimension."""
    return x.nonzero(as_tuple=True)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Return `src` on the device of `dst`."""
    return src.to(dst.device)


def shapes_to_tensor(x: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return sizes, such as an image's (H, W), as an int64 tensor."""
    return torch.as_tensor(x, device=device)


def disable_torch_compiler(func: Callable) -> Callable:
    """Exclude `func` from `torch.compile`: it runs eagerly when compiled code calls it."""
    return torch.compiler.disable(func)
