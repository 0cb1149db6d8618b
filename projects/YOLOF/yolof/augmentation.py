"""Random shift (sec. 5, implementation details): INPUT.AUGMENTATION resize_shift_and_flip."""

import numpy as np

from d2lite.config import CfgNode
from d2lite.data import transforms as T
from d2lite.data.augmentation import AUGMENTATION_REGISTRY, resize_and_flip

UNLABELED = 255


class RandomShift(T.Augmentation):
    """Random shift of the image within its frame; uncovered areas are black.

    Anchors are far apart on the single level of features. Shifts prevent objects from always being
    in the same place between them.
    """

    def __init__(self, prob: float = 0.5, max_pixels: int = 32):
        """
        Args:
            prob: probability that an image is shifted.
            max_pixels: maximum shift along each axis, in either direction.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        """Return a shift for this (H, W, C) image, or a transform that does nothing.

        It does nothing if a shift would move all objects out of the image.

        Args:
            boxes: (M, 4) XYXY.
        """
        # All are always drawn, so that the choice for one image does not affect the next.
        is_due = np.random.rand() < self.prob
        dx, dy = np.random.randint(-self.max_pixels, self.max_pixels + 1, size=2)
        height, width = image.shape[:2]
        if not is_due or abs(dx) >= width or abs(dy) >= height:
            return T.NoOpTransform()
        # A box stays if it still has more than a pixel of width and height in the frame.
        inside = (boxes + [dx, dy, dx, dy]).clip(0, [width, height, width, height])
        if len(boxes) > 0 and not (inside[:, 2:] - inside[:, :2] > 1).all(axis=1).any():
            return T.NoOpTransform()
        return shift(int(dx), int(dy), width, height)


def shift(dx: int, dy: int, width: int, height: int) -> T.TransformList:
    """Return the shift of an image right by dx and down by dy: a crop followed by a border."""
    left, top = max(dx, 0), max(dy, 0)
    kept_width, kept_height = width - abs(dx), height - abs(dy)
    crop = T.CropTransform(
        max(-dx, 0), max(-dy, 0), kept_width, kept_height, orig_w=width, orig_h=height
    )
    border = T.PadTransform(
        left,
        top,
        width - kept_width - left,
        height - kept_height - top,
        orig_w=kept_width,
        orig_h=kept_height,
        seg_pad_value=UNLABELED,
    )
    return T.TransformList([crop, border])


@AUGMENTATION_REGISTRY.register()
def resize_shift_and_flip(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return `resize_and_flip`, and in training the shift of INPUT.SHIFT in between.

    Raises:
        ValueError: INPUT.SHIFT.MAX_PIXELS is negative.
    """
    resize, *flip = resize_and_flip(cfg, is_train)
    if not is_train:
        return [resize, *flip]
    settings = cfg.INPUT.SHIFT
    if settings.MAX_PIXELS < 0:
        raise ValueError(f"INPUT.SHIFT.MAX_PIXELS is {settings.MAX_PIXELS}; it must be at least 0")
    return [resize, RandomShift(settings.PROB, settings.MAX_PIXELS), *flip]
