"""`ImageList`: images of different sizes, padded into one tensor."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class ImageList:
    """N images in one (N, ..., H, W) tensor, padded at the right and the bottom.

    Attributes:
        tensor: the padded images.
        image_sizes: (height, width) of each image before padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]):
        """tensor: (N, H, W) or (N, C, H, W). image_sizes: N times (height, width)."""
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return the image `idx` without its padding, (H, W) or (C, H, W)."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """Return a copy with `Tensor.to` applied to the tensor."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: list[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad images to a common size and stack them; a single image is not copied if possible.

        Args:
            tensors: (..., Hi, Wi), equal in all axes except the last two.
            size_divisibility: H and W become multiples of this, if greater than 1.
            pad_value: value of the padding.
            padding_constraints: may contain "size_divisibility", which overrides the argument, and
                "square_size", the value of H and W (rounded up to a multiple).

        Raises:
            ValueError: an image is larger than "square_size".
        """
        assert len(tensors) > 0, "ImageList.from_tensors needs at least one image"
        kinds = {type(image).__name__ for image in tensors if not isinstance(image, Tensor)}
        assert not kinds, f"ImageList.from_tensors takes tensors, found {', '.join(sorted(kinds))}"
        sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        constraints = padding_constraints or {}
        height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
        square = constraints.get("square_size", 0)
        if square > 0:
            if max(height, width) > square:
                raise ValueError(
                    f"square_size is {square}, but an image is {height} x {width}: "
                    "raise square_size or shrink the images"
                )
            height = width = square
        step = max(constraints.get("size_divisibility", size_divisibility), 1)
        size = (height + step - 1) // step * step, (width + step - 1) // step * step
        if len(tensors) == 1:
            (image,), ((height, width),) = tensors, sizes
            if size != sizes[0]:
                pad = (0, size[1] - width, 0, size[0] - height)
                image = F.pad(image, pad, value=pad_value)
            return ImageList(image.unsqueeze(0).contiguous(), sizes)

        batch = tensors[0].new_empty((len(tensors), *tensors[0].shape[:-2], *size))
        # By index, because writing to views of the batch would block gradients to the images.
        for i, (image, (height, width)) in enumerate(zip(tensors, sizes, strict=True)):
            assert image.shape[:-2] == tensors[0].shape[:-2], (
                f"images must agree in all but the last two axes, found {tuple(image.shape)} "
                f"and {tuple(tensors[0].shape)}"
            )
            batch[i, ..., :height, :width] = image
            batch[i, ..., height:, :] = pad_value
            batch[i, ..., :height, width:] = pad_value
        return ImageList(batch, sizes)
