"""Augmentations that cut windows out of images."""

from collections.abc import Sequence

import numpy as np
from fvcore.transforms.transform import (
    CropTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
)

from d2lite.data.transforms.augmentation import Augmentation
from d2lite.utils.registry import check_choice


class FixedSizeCrop(Augmentation):
    """Random crop of a fixed size; smaller images are padded at the right and bottom."""

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
            pad_value: value of padding in the image.
            seg_pad_value: value of padding in the label map.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> TransformList:
        """Return the crop, followed by the padding if `pad` is set."""
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
    """Random window of the image."""

    def __init__(self, crop_type: str, crop_size: tuple[float, float]):
        """
        Args:
            crop_type: the meaning of `crop_size`, which is (height, width) except in the last case:
                "relative": shares of the image in (0, 1];
                "relative_range": shares drawn between these and 1;
                "absolute": pixels;
                "absolute_range": (min, max) pixels, for height and width separately.
            crop_size: two numbers.
        """
        super().__init__()
        check_choice("crop_type", crop_type, _CROP_TYPES)
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return a crop at a random place."""
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        assert height >= crop_h and width >= crop_w, f"{self} made {crop_h} x {crop_w}"
        y0 = int(np.random.randint(height - crop_h + 1))
        x0 = int(np.random.randint(width - crop_w + 1))
        return CropTransform(x0, y0, crop_w, crop_h, width, height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) of the window for an image of size (h, w), both in pixels."""
        h, w = image_size
        first, second = self.crop_size
        if self.crop_type == "relative":
            return max(int(h * first + 0.5), 1), max(int(w * second + 0.5), 1)
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            share_h, share_w = least + np.random.rand(2) * (1 - least)
            return max(int(h * share_h + 0.5), 1), max(int(w * share_w + 0.5), 1)
        if self.crop_type == "absolute":
            return min(first, h), min(second, w)
        assert first <= second, f"absolute_range is (min, max), not {self.crop_size}"
        crop_h = np.random.randint(min(h, first), min(h, second) + 1)
        crop_w = np.random.randint(min(w, first), min(w, second) + 1)
        return int(crop_h), int(crop_w)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """Random crop in which no semantic category covers too much, if ten attempts find one."""

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
            single_category_max_area: largest share of the labeled pixels for one category; 1 means
                no limit.
            ignored_category: label that is not counted.
        """
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image, sem_seg) -> Transform:
        """Return the first suitable crop, or else the last one tried."""
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            crop = self.crop_aug.get_transform(image)
            labels = crop.apply_segmentation(sem_seg)
            categories, counts = np.unique(labels, return_counts=True)
            if self.ignored_category is not None:
                counts = counts[categories != self.ignored_category]
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return crop


class MinIoURandomCrop(Augmentation):
    """Random crop that overlaps every box by a minimum IoU (SSD, sec. 2.2)."""

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ):
        """
        Args:
            min_ious: minimum IoUs to choose from, in addition to the whole image and any crop.
            min_crop_size: smallest share of each side of the image.
            mode_trials: how often a minimum IoU is chosen before giving up.
            crop_trials: number of windows tried for each choice.
        """
        super().__init__()
        self._init(locals())
        self.sample_mode = (1, *min_ious, 0)

    def get_transform(self, image, boxes) -> Transform:
        """Return a crop that contains the center of a box of `boxes` (N, 4) XYXY, or a no-op."""
        if boxes is None:
            return NoOpTransform()
        size = np.array([image.shape[1], image.shape[0]])  # w, h
        for _ in range(self.mode_trials):
            min_iou = self.sample_mode[np.random.choice(len(self.sample_mode))]
            if min_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                extent = np.random.uniform(self.min_crop_size * size, size)
                if not 0.5 <= extent[1] / extent[0] <= 2:
                    continue  # too oblong
                corner = np.random.uniform(0, size - extent)
                window = np.concatenate([corner, corner + extent]).astype(int)  # (4,) XYXY
                if (window[2:] > window[:2]).all() and _fits(window, boxes, min_iou):
                    x0, y0, x1, y1 = window.tolist()
                    return CropTransform(x0, y0, x1 - x0, y1 - y0, *size.tolist())
        return NoOpTransform()


def _fits(window: np.ndarray, boxes: np.ndarray, min_iou: float) -> bool:
    """Return whether all (N, 4) boxes overlap the window enough and some center lies in it."""
    if len(boxes) == 0:
        return True
    shared = np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2])
    intersection = shared.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas + (window[2:] - window[:2]).prod() - intersection
    if (intersection / union).min() < min_iou:
        return False
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(((centers > window[:2]) & (centers < window[2:])).all(axis=1).any())
