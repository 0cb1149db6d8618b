"""The color augmentation of SSD, as PointRend's semantic models were trained with it."""

import random

import cv2
import numpy as np
from fvcore.transforms.transform import Transform


class ColorAugSSDTransform(Transform):
    """Random change of brightness, contrast, saturation and hue, each with probability 1/2.

    See SSD, sec. 2.2. The amounts are drawn by `random` whenever an image is transformed, not when
    the object is created, and every change rounds down to uint8, so results equal detectron2's.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ):
        """Set the ranges.

        Args:
            img_format: "BGR" or "RGB", the order of the channels.
            brightness_delta: maximum amount added or subtracted, in units of uint8.
            contrast_low, contrast_high: range of the factor for all channels.
            saturation_low, saturation_high: range of the factor for the saturation in HSV.
            hue_delta: maximum amount added or subtracted, in units of 2 degrees.
        Raises:
            ValueError: the format is not one of these.
        """
        super().__init__()
        if img_format not in ("BGR", "RGB"):
            raise ValueError(
                f"INPUT.FORMAT is {img_format!r}; changing colors needs 'BGR' or 'RGB'"
            )
        self.is_rgb = img_format == "RGB"
        del img_format  # only the ranges are left
        self._set_attributes(locals())

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return the coordinates unchanged."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return the labels unchanged."""
        return segmentation

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Change the colors of an (H, W, 3) uint8 image; `interp` is not used."""
        if self.is_rgb:
            img = img[:, :, ::-1]
        img = self.brightness(np.ascontiguousarray(img))
        # Contrast changes brightness only, so it matters whether it comes first or last.
        changes = [self.saturation, self.hue]
        changes.insert(0 if random.randrange(2) else 2, self.contrast)
        for change in changes:
            img = change(img)
        return img[:, :, ::-1] if self.is_rgb else img

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return alpha * img + beta, clipped to [0, 255] and rounded down to uint8."""
        return (img.astype(np.float32) * alpha + beta).clip(0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Add a number, with probability 1/2."""
        if not random.randrange(2):
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        """Multiply by a factor, with probability 1/2."""
        if not random.randrange(2):
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Multiply the saturation of a BGR image by a factor, with probability 1/2."""
        if not random.randrange(2):
            return img
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
        factor = random.uniform(self.saturation_low, self.saturation_high)
        hsv[:, :, 1] = self.convert(hsv[:, :, 1], alpha=factor)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Rotate the hues of a BGR image, with probability 1/2."""
        if not random.randrange(2):
            return img
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
        turn = random.randint(-self.hue_delta, self.hue_delta)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + turn) % 180  # the uint8 of a hue ends at 179
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
