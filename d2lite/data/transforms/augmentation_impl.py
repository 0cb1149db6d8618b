"""The augmentations that config keys and projects use: sizes, flips and rotation.

Crops and color changes are defined in files of their own, and re-exported here as in detectron2.
"""

import sys

import numpy as np
from fvcore.transforms.transform import (
    HFlipTransform,
    NoOpTransform,
    Transform,
    VFlipTransform,
)
from PIL import Image

from d2lite.data.transforms.augmentation import Augmentation, _transform_to_aug
from d2lite.data.transforms.augmentation_color import (
    RandomBrightness as RandomBrightness,
    RandomContrast as RandomContrast,
    RandomLighting as RandomLighting,
    RandomSaturation as RandomSaturation,
)
from d2lite.data.transforms.augmentation_crop import (
    FixedSizeCrop as FixedSizeCrop,
    MinIoURandomCrop as MinIoURandomCrop,
    RandomCrop as RandomCrop,
    RandomCrop_CategoryAreaConstraint as RandomCrop_CategoryAreaConstraint,
)
from d2lite.data.transforms.transform import ExtentTransform, ResizeTransform, RotationTransform
from d2lite.utils.errors import ArgumentError


class RandomApply(Augmentation):
    """Augmentation or transform that is applied with a probability."""

    def __init__(self, tfm_or_aug, prob=0.5):
        """
        Args:
            tfm_or_aug: Augmentation or Transform.
            prob: probability in [0, 1] that it is applied.
        """
        super().__init__()
        if not 0.0 <= prob <= 1.0:
            raise ArgumentError(f"RandomApply: prob is {prob}; it must be in [0, 1]")
        self.aug = _transform_to_aug(tfm_or_aug)
        self.tfm_or_aug = tfm_or_aug
        self.prob = prob

    def get_transform(self, *args) -> Transform:
        """Return the transform of the wrapped augmentation, or a no-op."""
        return self.aug.get_transform(*args) if self._is_due() else NoOpTransform()

    def __call__(self, aug_input) -> Transform:
        """Change the input in place with the given probability, and return the transform."""
        return self.aug(aug_input) if self._is_due() else NoOpTransform()

    def _is_due(self) -> bool:
        return self._rand_range() < self.prob


class RandomFlip(Augmentation):
    """Random flip of the image in one direction."""

    def __init__(self, prob=0.5, *, horizontal=True, vertical=False):
        """
        Args:
            prob: probability of a flip.
            horizontal, vertical: the direction; exactly one must be true. Use two RandomFlip to
                flip in both.
        """
        super().__init__()
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip flips in one direction: set either horizontal or vertical, and use "
                "two RandomFlip to have both"
            )
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return a flip or a no-op."""
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class Resize(Augmentation):
    """Resizing to a fixed size."""

    def __init__(self, shape, interp=Image.BILINEAR):
        """
        Args:
            shape: (h, w), or one number for both.
            interp: Pillow's filter number.
        """
        super().__init__()
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the resize for this image."""
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


class ResizeShortestEdge(Augmentation):
    """Resizing of the shorter side to a given length, while the longer one has a maximum."""

    def __init__(
        self, short_edge_length, max_size=sys.maxsize, sample_style="range", interp=Image.BILINEAR
    ):
        """
        Args:
            short_edge_length: pixels; [min, max] for "range", the choices for "choice", or a
                single number. 0 leaves the image alone.
            max_size: maximum length of the longer side, in pixels.
            sample_style: "range" draws a whole number from the range, both ends included; "choice"
                draws one of the given lengths.
            interp: Pillow's filter number.
        """
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise ArgumentError(f"sample_style is {sample_style!r}; use 'range' or 'choice'")
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise ArgumentError(
                "short_edge_length must be (min, max) for sample_style 'range', "
                f"not {short_edge_length}"
            )
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the resize for this image, with the length drawn."""
        height, width = image.shape[:2]
        if self.is_range:
            low, high = self.short_edge_length
            size = int(np.random.randint(low, high + 1))
        else:
            size = int(np.random.choice(self.short_edge_length))
        if size == 0:
            return NoOpTransform()
        new_size = self.get_output_shape(height, width, size, self.max_size)
        return ResizeTransform(height, width, *new_size, self.interp)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Return (new_h, new_w) for an (oldh, oldw) image, rounded to pixels, each at least 1."""
        scale = short_edge_length / min(oldh, oldw)
        # The shorter side is set, not computed, so that rounding cannot miss it.
        new_h, new_w = (
            (float(short_edge_length), scale * oldw)
            if oldh < oldw
            else (scale * oldh, float(short_edge_length))
        )
        longest = max(new_h, new_w)
        if longest > max_size:
            new_h, new_w = new_h * (max_size / longest), new_w * (max_size / longest)
        # A long thin image keeps at least one row or column.
        return max(int(new_h + 0.5), 1), max(int(new_w + 0.5), 1)


class ResizeScale(Augmentation):
    """Scale jitter: fit the image into a randomly scaled target size, keeping its proportions.

    Followed by `FixedSizeCrop` this is large-scale jittering (Simple Copy-Paste, sec. 3).
    """

    def __init__(self, min_scale, max_scale, target_height, target_width, interp=Image.BILINEAR):
        """
        Args:
            min_scale, max_scale: the target size is multiplied by a factor between them.
            target_height, target_width: pixels.
            interp: Pillow's filter number.
        """
        super().__init__()
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        size = np.array(image.shape[:2])
        target = np.array([self.target_height, self.target_width]) * scale
        new_h, new_w = np.round(size * (target / size).min()).astype(int).clip(min=1)
        return ResizeTransform(*image.shape[:2], int(new_h), int(new_w), self.interp)

    def get_transform(self, image) -> Transform:
        """Return the resize for this image, with the factor drawn."""
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomResize(Augmentation):
    """Resizing to one of several sizes, drawn at random."""

    def __init__(self, shape_list, interp=Image.BILINEAR):
        """
        Args:
            shape_list: (h, w) pairs to choose from.
            interp: Pillow's filter number.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the resize for this image, with the size drawn."""
        new_h, new_w = self.shape_list[np.random.choice(len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], new_h, new_w, self.interp)


class RandomRotation(Augmentation):
    """Rotation by a random angle."""

    def __init__(self, angle, expand=True, center=None, sample_style="range", interp=None):
        """
        Args:
            angle: degrees counter-clockwise: (min, max) for "range", the choices for "choice", or
                a single number.
            expand: make the result large enough for the whole image.
            center: relative (x, y) in [0, 1] to rotate about, or for "range" ((min_x, min_y),
                (max_x, max_y)), for "choice" a list; None is the middle.
            sample_style: "range" or "choice".
            interp: cv2's interpolation flag; None is linear.
        """
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise ArgumentError(f"sample_style is {sample_style!r}; use 'range' or 'choice'")
        self.is_range = sample_style == "range"
        if isinstance(angle, (float, int)):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], (float, int)):
            center = (center, center)
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the rotation for this image, with angle and center drawn."""
        height, width = image.shape[:2]
        angle, center = self._draw()
        if angle % 360 == 0:
            return NoOpTransform()
        if center is not None:
            center = (width * center[0], height * center[1])
        return RotationTransform(height, width, angle, self.expand, center, self.interp)

    def _draw(self) -> tuple[float, tuple[float, float] | None]:
        center = None
        if self.is_range:
            angle = np.random.uniform(*self.angle)
            if self.center is not None:
                (low_x, low_y), (high_x, high_y) = self.center
                center = (np.random.uniform(low_x, high_x), np.random.uniform(low_y, high_y))
        else:
            angle = np.random.choice(self.angle)
            if self.center is not None:
                center = self.center[np.random.choice(len(self.center))]
        return float(angle), center


class RandomExtent(Augmentation):
    """Random zoom and shift: cuts out a rectangle, which may reach beyond the image."""

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]):
        """
        Args:
            scale_range: (min, max) factor between the rectangle's sides and the image's.
            shift_range: (x, y) shares of the image's sides; the rectangle's middle moves by up to
                half of them in either direction.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the extent for this image, with the rectangle drawn; pixels keep their scale."""
        height, width = image.shape[:2]
        scale = np.random.uniform(*self.scale_range)
        shift_x = width * self.shift_range[0] * (np.random.rand() - 0.5)
        shift_y = height * self.shift_range[1] * (np.random.rand() - 0.5)
        middle = np.array([width / 2 + shift_x, height / 2 + shift_y])
        half = np.array([width, height]) * scale / 2
        src_rect = np.concatenate([middle - half, middle + half])
        new_w, new_h = (src_rect[2:] - src_rect[:2]).astype(int).tolist()
        return ExtentTransform(tuple(src_rect.tolist()), output_size=(new_h, new_w))
