"""Darknet's augmentations: INPUT.AUGMENTATION yolov3_augmentation."""

from functools import partial

import numpy as np
from fvcore.transforms.transform import (
    CropTransform,
    PadTransform,
    Transform,
    TransformList,
)

from d2lite.config import CfgNode
from d2lite.data import transforms as T
from d2lite.data.augmentation import AUGMENTATION_REGISTRY, flip

from .letterbox import GRAY, fit_letterbox


class RandomPlacement(T.Augmentation):
    """Random placement of the image in a gray square: stretched a little, scaled, and anywhere.

    Without jitter and at scale 1, it is the letterbox.
    """

    def __init__(
        self, side: int, jitter: float = 0.3, scale_range: tuple[float, float] = (0.25, 2.0)
    ):
        """
        Args:
            side: side of the square, in pixels.
            jitter: maximum relative change of width and of height.
            scale_range: minimum and maximum factor on the size that just fits.
        Raises:
            ValueError: a setting is not possible; the message names it.
        """
        super().__init__()
        if not 0 <= jitter < 1:
            raise ValueError(f"INPUT.YOLOV3.JITTER is {jitter}; it must be at least 0 and below 1")
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(
                f"INPUT.YOLOV3.SCALE_RANGE is {scale_range}; give the minimum and the maximum "
                "factor, both above 0"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return the resize, crop and padding for an (H, W, C) image."""
        old_size = image.shape[:2]
        if self.jitter == 0 and tuple(self.scale_range) == (1.0, 1.0):
            place = fit_letterbox(old_size, self.side)
            return _place(old_size, (place.height, place.width), (place.x0, place.y0), self.side)
        height, width = np.array(old_size) * np.random.uniform(1 - self.jitter, 1 + self.jitter, 2)
        factor = np.random.uniform(*self.scale_range) * self.side / max(height, width)
        new_size = max(round(height * factor), 1), max(round(width * factor), 1)
        free = self.side - np.array(new_size[::-1])
        # If the image is larger than the square, this is negative: the amount that is cut off.
        x0, y0 = np.round(np.random.uniform(0, 1, 2) * free).astype(int).tolist()
        return _place(old_size, new_size, (x0, y0), self.side)


def _place(
    old_size: tuple[int, int], new_size: tuple[int, int], corner: tuple[int, int], side: int
) -> TransformList:
    """Return the resize to a new (height, width) and the placement at (x0, y0) of a square."""
    (height, width), (x0, y0) = new_size, corner
    left, top = max(-x0, 0), max(-y0, 0)
    kept_width, kept_height = min(width - left, side), min(height - top, side)
    x0, y0 = max(x0, 0), max(y0, 0)
    right, below = side - x0 - kept_width, side - y0 - kept_height
    return TransformList(
        [
            T.ResizeTransform(*old_size, *new_size),
            CropTransform(left, top, kept_width, kept_height, width, height),
            PadTransform(x0, y0, right, below, kept_width, kept_height, GRAY),
        ]
    )


class HSVJitter(T.Augmentation):
    """Random rotation of the hue, and random factors on saturation and brightness."""

    def __init__(self, hue: float = 0.1, saturation: float = 1.5, exposure: float = 1.5):
        """
        Args:
            hue: maximum rotation, as a share of the full circle.
            saturation, exposure: maximum factor; the minimum is its inverse.
        Raises:
            ValueError: a factor is below 1.
        """
        super().__init__()
        for key, factor in (("SATURATION", saturation), ("EXPOSURE", exposure)):
            if factor < 1:
                raise ValueError(
                    f"INPUT.YOLOV3.{key} is {factor}, the maximum factor; it must be at least 1.0"
                )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return a change of colors for this (H, W, 3) uint8 image; its channel order does not
        matter."""
        changes = {
            "hue": 360 * np.random.uniform(-self.hue, self.hue),
            "saturation": _draw_factor(self.saturation),
            "value": _draw_factor(self.exposure),
        }
        return T.ColorTransform(partial(T.change_colors, **changes))


def _draw_factor(largest: float) -> float:
    factor = np.random.uniform(1, largest)
    return factor if np.random.rand() < 0.5 else 1 / factor


@AUGMENTATION_REGISTRY.register()
def yolov3_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return the augmentations of INPUT.YOLOV3 for training, or a resize that fits for testing.

    In training, images become squares of the largest of MODEL.YOLOV3.TRAIN_SIZES. The model adds
    the gray padding of test images, and maps its detections back.
    """
    yolo, settings = cfg.MODEL.YOLOV3, cfg.INPUT.YOLOV3
    if not is_train:
        return [T.ResizeShortestEdge(yolo.IMAGE_SIZE, yolo.IMAGE_SIZE)]
    side = max(yolo.TRAIN_SIZES or [yolo.IMAGE_SIZE])
    return [
        HSVJitter(settings.HUE, settings.SATURATION, settings.EXPOSURE),
        RandomPlacement(side, settings.JITTER, settings.SCALE_RANGE),
        *flip(cfg, is_train),
    ]
