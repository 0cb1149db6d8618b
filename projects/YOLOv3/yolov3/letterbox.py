"""Images centered in a gray square, with their aspect ratio kept.

Test images are resized by the stock loader, and the model adds the gray padding. In training, both
may be random, so `yolov3_augmentation` does both; the network gets the same kind of images.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from d2lite.data import transforms as T

# Value of the padding: the middle of the range of bytes.
GRAY = 128


class Letterbox(NamedTuple):
    """Position of an image in its square."""

    height: int
    """height of the resized image"""
    width: int
    x0: int
    """position of its upper left corner in the square"""
    y0: int
    scale_x: float
    """new width over old width"""
    scale_y: float

    def to_square(self, boxes: Tensor) -> Tensor:
        """Map (M, 4) XYXY boxes of the image to the square."""
        return boxes * self._scale(boxes) + self._shift(boxes)

    def to_image(self, boxes: Tensor) -> Tensor:
        """Map (M, 4) XYXY boxes of the square to the image; they may extend beyond it."""
        return (boxes - self._shift(boxes)) / self._scale(boxes)

    def _scale(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    def _shift(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.x0, self.y0, self.x0, self.y0])


def fit_letterbox(image_size: tuple[int, int], side: int) -> Letterbox:
    """Return the position of an image of (height, width) that fills a square of `side` pixels."""
    height, width = T.ResizeShortestEdge.get_output_shape(*image_size, side, side)
    # Otherwise, the shorter side of a very long image would vanish.
    height, width = max(height, 1), max(width, 1)
    x0, y0 = (side - width) // 2, (side - height) // 2
    return Letterbox(height, width, x0, y0, width / image_size[1], height / image_size[0])


def letterbox(image: Tensor, side: int) -> Tensor:
    """Put a (C, H, W) image of bytes, or of numbers up to 255, into a square.

    Returns:
        (C, side, side); of the same type if the image already has the right size, else float32.
    """
    place = fit_letterbox(image.shape[-2:], side)
    size = (place.height, place.width)
    if tuple(image.shape[-2:]) != size:
        image = F.interpolate(image.float()[None], size=size, mode="bilinear", antialias=True)[0]
    right, below = side - place.width - place.x0, side - place.height - place.y0
    return F.pad(image, (place.x0, right, place.y0, below), value=GRAY)
