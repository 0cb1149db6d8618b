"""Change the colors of an image by given amounts, for augmentations that draw them."""

import cv2
import numpy as np


def change_colors(
    image: np.ndarray,
    *,
    brightness: float = 0.0,
    contrast: float = 1.0,
    hue: float = 0.0,
    saturation: float = 1.0,
    value: float = 1.0,
    contrast_last: bool = False,
) -> np.ndarray:
    """Change brightness and contrast, then hue, saturation and value (those of HSV).

    Numbers are rounded once, at the end. An augmentation returns it as
    `ColorTransform(partial(change_colors, hue=10.0))`.

    Args:
        image: (H, W, 3) uint8; the order of RGB or BGR does not matter if hues are drawn evenly
            to both sides.
        brightness: added to all channels, in units of uint8.
        contrast: factor of all channels.
        hue: rotation in degrees.
        saturation: factor.
        value: factor of the largest channel; the others follow, so hues do not change.
        contrast_last: multiply by `contrast` after the rest.
    Returns:
        (H, W, 3) uint8.
    """
    pixels = image.astype(np.float32) + np.float32(brightness)
    if not contrast_last:
        pixels *= contrast
    pixels = pixels.clip(0, 255)
    if (hue, saturation, value) != (0.0, 1.0, 1.0):
        # Of float32 pixels up to 255: hue in degrees, saturation in [0, 1], value in [0, 255].
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + hue) % 360
        hsv[..., 1] = (hsv[..., 1] * saturation).clip(0, 1)
        hsv[..., 2] = (hsv[..., 2] * value).clip(0, 255)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if contrast_last:
        pixels *= contrast
    return pixels.round().clip(0, 255).astype(np.uint8)
