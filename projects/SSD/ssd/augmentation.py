"""SSD's augmentations (sec. 2.2 and 3.6): INPUT.AUGMENTATION ssd_augmentation."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from fvcore.transforms.transform import CropTransform, Transform

from d2lite.config import CfgNode
from d2lite.data import transforms as T
from d2lite.data.augmentation import AUGMENTATION_REGISTRY, flip, resize_and_flip


class PhotometricDistortion(T.Augmentation):
    """Random change of brightness, contrast, saturation and hue."""

    def __init__(self, prob: float = 0.5):
        """prob: probability of each change."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return a change of colors for this (H, W, 3) uint8 image; its channel order does not
        matter."""
        changes = {
            "brightness": self._draw(-32.0, 32.0, neutral=0.0),
            "contrast": self._draw(0.5, 1.5, neutral=1.0),
            "saturation": self._draw(0.5, 1.5, neutral=1.0),
            "hue": self._draw(-18.0, 18.0, neutral=0.0),
            "contrast_last": np.random.rand() >= 0.5,
        }
        return T.ColorTransform(partial(T.change_colors, **changes))

    def _draw(self, low: float, high: float, neutral: float) -> float:
        # Both numbers are always drawn, so that one change does not affect the others.
        due, value = np.random.rand() < self.prob, np.random.uniform(low, high)
        return value if due else neutral


class ExpandCanvas(T.Augmentation):
    """Random placement of the image on a larger canvas, for smaller objects (sec. 3.6)."""

    def __init__(self, fill: Sequence[float], max_ratio: float = 4.0, prob: float = 0.5):
        """
        Args:
            fill: color of the canvas, one number per channel.
            max_ratio: maximum ratio of the sides of the canvas to those of the image.
            prob: probability of the augmentation.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return the transform to a canvas for this image, or one that does nothing."""
        if np.random.rand() >= self.prob:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        ratio = np.random.uniform(1.0, self.max_ratio)
        canvas = int(height * ratio), int(width * ratio)
        y, x = (
            int(np.random.randint(free + 1)) for free in (canvas[0] - height, canvas[1] - width)
        )
        return CanvasTransform(x, y, canvas, tuple(self.fill))


class CanvasTransform(Transform):
    """Placement of the image on a canvas."""

    def __init__(self, x0: int, y0: int, size: tuple[int, int], fill: tuple[float, ...]):
        """
        Args:
            x0, y0: position of the image's top left corner on the canvas.
            size: (H, W) of the canvas.
            fill: color of the canvas.
        """
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Map an (h, w, C) image to an (H, W, C) canvas."""
        canvas = np.empty((*self.size, image.shape[2]), dtype=image.dtype)
        canvas[:] = np.round(self.fill).astype(image.dtype)
        height, width = image.shape[:2]
        canvas[self.y0 : self.y0 + height, self.x0 : self.x0 + width] = image
        return canvas

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Move (N, 2) points (x, y)."""
        return coords + np.array([self.x0, self.y0], dtype=coords.dtype)


class ObjectCrop(T.Augmentation):
    """`MinIoURandomCrop` that keeps only objects whose center lies in the crop."""

    def __init__(self, min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9)):
        """min_ious: minimum IoUs with every object, of which one is drawn."""
        super().__init__()
        self._init(locals())
        self._crop = T.MinIoURandomCrop(tuple(min_ious))

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> Transform:
        """Return a crop, or a transform that does nothing; `boxes` are (M, 4) XYXY."""
        crop = self._crop.get_transform(image, boxes)
        if not isinstance(crop, CropTransform):
            return crop
        return CentreCropTransform(crop.x0, crop.y0, crop.w, crop.h)


class CentreCropTransform(CropTransform):
    """Crop that clips boxes, and empties those whose center lies outside."""

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Clip (M, 4) XYXY boxes to the crop; those whose center is outside get no area."""
        boxes = np.asarray(box, dtype=np.float64) - [self.x0, self.y0, self.x0, self.y0]
        size = np.array([self.w, self.h])
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centers > 0) & (centers < size)).all(axis=1)
        return boxes.clip(0, np.tile(size, 2)) * inside[:, None]


@AUGMENTATION_REGISTRY.register()
def ssd_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return the augmentations of INPUT.SSD, a resize to MODEL.SSD.IMAGE_SIZE, and a flip.

    For testing, return those of `resize_and_flip`: images keep their size if INPUT.MIN_SIZE_TEST is
    0, and the model resizes them.
    """
    if not is_train:
        return resize_and_flip(cfg, is_train)
    settings, side = cfg.INPUT.SSD, cfg.MODEL.SSD.IMAGE_SIZE
    crops = [ObjectCrop(settings.CROP_MIN_IOUS)] if settings.CROP_MIN_IOUS else []
    return [
        PhotometricDistortion(settings.PHOTOMETRIC_PROB),
        ExpandCanvas(cfg.MODEL.PIXEL_MEAN, settings.EXPAND_RATIO, settings.EXPAND_PROB),
        *crops,
        T.Resize((side, side)),
        *flip(cfg, is_train),
    ]
