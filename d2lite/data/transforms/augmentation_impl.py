"""The augmentations that config keys and projects use: sizes, flips, crops, rotation, colours."""

import sys
from collections.abc import Sequence

import numpy as np
from fvcore.transforms.transform import (
    BlendTransform,
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from PIL import Image

from .augmentation import Augmentation, _transform_to_aug
from .transform import ExtentTransform, ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


class RandomApply(Augmentation):
    """Apply an augmentation or transform with a probability, else do nothing."""

    def __init__(self, tfm_or_aug, prob=0.5):
        """
        Args:
            tfm_or_aug: Augmentation or Transform.
            prob: probability in [0, 1] that it is applied.
        """
        super().__init__()
        if not 0.0 <= prob <= 1.0:
            raise ValueError(f"RandomApply: prob is {prob}, not in [0, 1]")
        self.aug = _transform_to_aug(tfm_or_aug)
        self.tfm_or_aug = tfm_or_aug
        self.prob = prob

    def get_transform(self, *args) -> Transform:
        """For the arguments of the wrapped augmentation."""
        return self.aug.get_transform(*args) if self._is_due() else NoOpTransform()

    def __call__(self, aug_input) -> Transform:
        """Change the input in place, or not, and return what was done."""
        return self.aug(aug_input) if self._is_due() else NoOpTransform()

    def _is_due(self) -> bool:
        return self._rand_range() < self.prob


class RandomFlip(Augmentation):
    """Mirror the image with a probability, in one direction."""

    def __init__(self, prob=0.5, *, horizontal=True, vertical=False):
        """
        Args:
            prob: probability of a flip.
            horizontal, vertical: the direction; exactly one is true. Use two for both.
        """
        super().__init__()
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip goes in one direction: set either horizontal or vertical, and use "
                "two RandomFlip to have both"
            )
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """A flip or nothing."""
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class Resize(Augmentation):
    """Resize to a fixed size."""

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
        """The resize for this image."""
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter side has a given length, or the longer one its maximum."""

    def __init__(
        self, short_edge_length, max_size=sys.maxsize, sample_style="range", interp=Image.BILINEAR
    ):
        """
        Args:
            short_edge_length: pixels; [min, max] for "range", the choices for "choice", or a
                single number. 0 leaves the image alone.
            max_size: pixels that the longer side may have.
            sample_style: "range" draws a whole number from it, both ends included; "choice" one of
                the given lengths.
            interp: Pillow's filter number.
        """
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise ValueError(f"sample_style is {sample_style!r}; use 'range' or 'choice'")
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise ValueError(
                "short_edge_length must be (min, max) for sample_style 'range', "
                f"not {short_edge_length}"
            )
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The resize for this image, with the length drawn."""
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
        """(new_h, new_w) of an (oldh, oldw) image, each rounded to the nearest pixel."""
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
        return int(new_h + 0.5), int(new_w + 0.5)


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
        new_h, new_w = np.round(size * (target / size).min()).astype(int)
        return ResizeTransform(*image.shape[:2], int(new_h), int(new_w), self.interp)

    def get_transform(self, image) -> Transform:
        """The resize for this image, with the factor drawn."""
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomResize(Augmentation):
    """Resize to one of several sizes."""

    def __init__(self, shape_list, interp=Image.BILINEAR):
        """
        Args:
            shape_list: (h, w) pairs to choose from.
            interp: Pillow's filter number.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The resize for this image, with the size drawn."""
        new_h, new_w = self.shape_list[np.random.choice(len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], new_h, new_w, self.interp)


class RandomRotation(Augmentation):
    """Rotate by a random angle."""

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
            raise ValueError(f"sample_style is {sample_style!r}; use 'range' or 'choice'")
        self.is_range = sample_style == "range"
        if isinstance(angle, (float, int)):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], (float, int)):
            center = (center, center)
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The rotation for this image, with angle and centre drawn."""
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


class FixedSizeCrop(Augmentation):
    """Crop to a fixed size at a random place; pad what is smaller, at the right and bottom."""

    def __init__(
        self,
        crop_size: tuple[int, int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ):
        """
        Args:
            crop_size: (h, w) of the result, in pixels.
            pad: whether smaller images are padded; otherwise they stay smaller.
            pad_value: for the image.
            seg_pad_value: for the label map.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> TransformList:
        """The crop, and the padding if wanted."""
        transforms = [self._get_crop(image)]
        if self.pad:
            transforms.append(self._get_pad(image))
        return TransformList(transforms)

    def _get_crop(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_h, crop_w = min(self.crop_size[0], height), min(self.crop_size[1], width)
        # One number places the window on both axes, as in detectron2.
        place = np.random.uniform(0.0, 1.0)
        y0, x0 = (int(np.round(free * place)) for free in (height - crop_h, width - crop_w))
        return CropTransform(x0, y0, crop_w, crop_h, width, height)

    def _get_pad(self, image: np.ndarray) -> Transform:
        (height, width), (want_h, want_w) = image.shape[:2], self.crop_size
        have_h, have_w = min(height, want_h), min(width, want_w)
        return PadTransform(
            0,
            0,
            want_w - have_w,
            want_h - have_h,
            have_w,
            have_h,
            self.pad_value,
            self.seg_pad_value,
        )


_CROP_TYPES = ("relative", "relative_range", "absolute", "absolute_range")


class RandomCrop(Augmentation):
    """Cut a random window out of the image."""

    def __init__(self, crop_type: str, crop_size: tuple[float, float]):
        """
        Args:
            crop_type: how `crop_size`, always (height, width), is meant:
                "relative": shares of the image in (0, 1];
                "relative_range": shares drawn between these and 1;
                "absolute": pixels;
                "absolute_range": (min, max) pixels, for height and width separately.
            crop_size: two numbers.
        """
        super().__init__()
        if crop_type not in _CROP_TYPES:
            raise ValueError(f"crop type {crop_type!r} is unknown; use one of {_CROP_TYPES}")
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """A crop of the wanted size at a random place."""
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        assert height >= crop_h and width >= crop_w, f"{self} made {crop_h} x {crop_w}"
        y0 = int(np.random.randint(height - crop_h + 1))
        x0 = int(np.random.randint(width - crop_w + 1))
        return CropTransform(x0, y0, crop_w, crop_h, width, height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the window for an image of size (h, w), both in pixels."""
        h, w = image_size
        first, second = self.crop_size
        if self.crop_type == "relative":
            return int(h * first + 0.5), int(w * second + 0.5)
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            share_h, share_w = least + np.random.rand(2) * (1 - least)
            return int(h * share_h + 0.5), int(w * share_w + 0.5)
        if self.crop_type == "absolute":
            return min(first, h), min(second, w)
        assert first <= second, f"absolute_range is (min, max), not {self.crop_size}"
        crop_h = np.random.randint(min(h, first), min(h, second) + 1)
        crop_w = np.random.randint(min(w, first), min(w, second) + 1)
        return int(crop_h), int(crop_w)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """A random crop in which no semantic category covers too much, if ten tries find one."""

    def __init__(
        self,
        crop_type: str,
        crop_size: tuple[float, float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ):
        """
        Args:
            crop_type, crop_size: as for RandomCrop.
            single_category_max_area: share of the labelled pixels that one category may have;
                1 allows everything.
            ignored_category: label that does not count.
        """
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image, sem_seg) -> Transform:
        """The last crop tried."""
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            crop = self.crop_aug.get_transform(image)
            if self._is_mixed(crop.apply_segmentation(sem_seg)):
                break
        return crop

    def _is_mixed(self, labels: np.ndarray) -> bool:
        categories, counts = np.unique(labels, return_counts=True)
        if self.ignored_category is not None:
            counts = counts[categories != self.ignored_category]
        return len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area


class RandomExtent(Augmentation):
    """Zoom and shift: cut out a rectangle of random size and place, also beyond the image."""

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
        """The extent for this image, with rectangle drawn; pixels keep their scale."""
        height, width = image.shape[:2]
        scale = np.random.uniform(*self.scale_range)
        shift_x = width * self.shift_range[0] * (np.random.rand() - 0.5)
        shift_y = height * self.shift_range[1] * (np.random.rand() - 0.5)
        middle = np.array([width / 2 + shift_x, height / 2 + shift_y])
        half = np.array([width, height]) * scale / 2
        src_rect = np.concatenate([middle - half, middle + half])
        new_w, new_h = (src_rect[2:] - src_rect[:2]).astype(int).tolist()
        return ExtentTransform(tuple(src_rect.tolist()), output_size=(new_h, new_w))


class RandomContrast(Augmentation):
    """Blend the image with its mean: factors below 1 reduce contrast, above 1 raise it."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The blend for this image."""
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=image.mean(), src_weight=1 - factor, dst_weight=factor)


class RandomBrightness(Augmentation):
    """Multiply the image: factors below 1 darken, above 1 brighten."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The blend for this image."""
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=0, src_weight=1 - factor, dst_weight=factor)


class RandomSaturation(Augmentation):
    """Blend an RGB image with its gray version: 0 is gray, above 1 is more colourful."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The blend for this (H, W, 3) image in RGB order."""
        assert image.shape[-1] == 3, f"RandomSaturation needs RGB, not {image.shape[-1]} channels"
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        gray = image.dot([0.299, 0.587, 0.114])[:, :, None]
        return BlendTransform(src_image=gray, src_weight=1 - factor, dst_weight=factor)


class RandomLighting(Augmentation):
    """Add a random colour along the principal axes of ImageNet's RGB values (AlexNet, sec. 4.1)."""

    # Columns are the axes; values are for images in [0, 1].
    eigen_vecs = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def __init__(self, scale):
        """scale: standard deviation of the weights of the axes."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """The blend for this (H, W, 3) image in RGB order."""
        assert image.shape[-1] == 3, f"RandomLighting needs RGB, not {image.shape[-1]} channels"
        weights = np.random.normal(scale=self.scale, size=3)
        color = self.eigen_vecs @ (weights * self.eigen_vals)
        return BlendTransform(src_image=color, src_weight=1.0, dst_weight=1.0)


class MinIoURandomCrop(Augmentation):
    """Crop a window that overlaps every box by a minimum IoU (SSD, sec. 2.2)."""

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ):
        """
        Args:
            min_ious: minimum IoUs to choose from; besides, the whole image and any crop.
            min_crop_size: least share of each side of the image.
            mode_trials: how often a minimum IoU is chosen before giving up.
            crop_trials: windows tried for each.
        """
        super().__init__()
        self._init(locals())
        self.sample_mode = (1, *min_ious, 0)

    def get_transform(self, image, boxes) -> Transform:
        """A crop, or nothing; `boxes` are (N, 4) XYXY, at least one centre is kept."""
        if boxes is None:
            return NoOpTransform()
        size = np.array([image.shape[1], image.shape[0]])  # w, h
        for _ in range(self.mode_trials):
            min_iou = self.sample_mode[np.random.choice(len(self.sample_mode))]
            if min_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                window = self._draw_window(size)
                if window is not None and _fits(window, boxes, min_iou):
                    x0, y0, x1, y1 = window.tolist()
                    return CropTransform(x0, y0, x1 - x0, y1 - y0, *size.tolist())
        return NoOpTransform()

    def _draw_window(self, size: np.ndarray) -> np.ndarray | None:
        """(4,) int XYXY inside the image; None when too oblong or empty."""
        extent = np.random.uniform(self.min_crop_size * size, size)
        if not 0.5 <= extent[1] / extent[0] <= 2:
            return None
        corner = np.random.uniform(0, size - extent)
        window = np.concatenate([corner, corner + extent]).astype(int)
        return window if (window[2:] > window[:2]).all() else None


def _fits(window: np.ndarray, boxes: np.ndarray, min_iou: float) -> bool:
    """Whether all (N, 4) boxes overlap the window enough and some centre lies in it."""
    if len(boxes) == 0:
        return True
    shared = np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2])
    intersection = shared.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas + (window[2:] - window[:2]).prod() - intersection
    if (intersection / union).min() < min_iou:
        return False
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(((centres > window[:2]) & (centres < window[2:])).all(axis=1).any())
