"""Segment ids as colors of PNG files, COCO's format of panoptic segmentations."""

import numpy as np


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) colors to (H, W) segment ids: R + 256 G + 256**2 B."""
    rgb = rgb.astype(np.int64)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Convert (H, W) segment ids, up to 2**24 - 1, to (H, W, 3) uint8 colors."""
    return np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
