"""Deterministic changes of an image, applied to its boxes, points, polygons and label maps too.

The simple ones (flips, crop, pad, blend) are fvcore's. Here are resizing, extent, rotation and
color operations, and how each of them moves a rotated box.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
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

# torch's names of Pillow's filters.
_TORCH_MODES = {Image.BILINEAR: "bilinear", Image.BICUBIC: "bicubic"}
# Types that cv2.warpAffine takes; other labels are converted to float64, which is exact.
_WARPABLE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


class ExtentTransform(Transform):
    """Crop of a rectangle, which may reach beyond the image, scaled to a given size."""

    def __init__(self, src_rect, output_size, interp=Image.BILINEAR, fill=0):
        """
        Args:
            src_rect: (x0, y0, x1, y1) in pixels of the input; may extend beyond it.
            output_size: (h, w) of the result.
            interp: Pillow's filter number, for images and label maps.
            fill: value of the pixels outside of the image.
        """
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(H, W) or (H, W, C) uint8 -> the same with H, W = output_size."""
        height, width = self.output_size
        one_channel = img.ndim == 3 and img.shape[2] == 1
        source = Image.fromarray(img[:, :, 0] if one_channel else img)
        result = source.transform(
            size=(width, height),
            method=Image.EXTENT,
            data=tuple(self.src_rect),
            resample=self.interp if interp is None else interp,
            fill=self.fill,
        )
        result = np.asarray(result)
        return result[:, :, None] if one_channel else result

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) points (x, y) of the input -> float32 points of the result."""
        height, width = self.output_size
        x0, y0, x1, y1 = self.src_rect
        scale = np.array([width / (x1 - x0), height / (y1 - y0)], dtype=np.float32)
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2], dtype=np.float32)
        half = np.array([width / 2, height / 2], dtype=np.float32)
        return (coords.astype(np.float32) - middle) * scale + half

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W) uint8 labels -> the same with H, W = output_size.

        As in detectron2, they are resampled with the filter of the image; any filter but NEAREST
        blends labels along the borders of regions. Set `interp` to NEAREST where that matters.
        """
        return self.apply_image(segmentation)


class ResizeTransform(Transform):
    """Resizing of an image to a fixed size.

    uint8 images are smoothed when they shrink, as in Pillow; other types are only interpolated
    between neighbors. Label maps take the pixel nearest to each new pixel's center.
    """

    def __init__(self, h, w, new_h, new_w, interp=None):
        """
        Args:
            h, w: size of the image to resize, in pixels.
            new_h, new_w: size of the result.
            interp: Pillow's filter number; None means bilinear.
        """
        super().__init__()
        if interp is None:
            interp = Image.BILINEAR
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(H, W) or (H, W, C) -> (new_h, new_w) or (new_h, new_w, C) of the same type."""
        assert img.shape[:2] == (self.h, self.w), (
            f"ResizeTransform is for {self.h} x {self.w} pixels, but the image has {img.shape[:2]}"
        )
        interp = self.interp if interp is None else interp
        if img.shape[:2] == (self.new_h, self.new_w):
            return img
        if interp == Image.NEAREST:
            rows = _nearest_indices(self.h, self.new_h)
            columns = _nearest_indices(self.w, self.new_w)
            # Rows first: whole rows are copied at once.
            return img.take(rows, axis=0).take(columns, axis=1)
        if img.dtype == np.uint8 and interp not in _TORCH_MODES:
            one_channel = img.ndim == 3 and img.shape[2] == 1
            source = Image.fromarray(img[:, :, 0] if one_channel else np.ascontiguousarray(img))
            result = np.asarray(source.resize((self.new_w, self.new_h), interp))
            return result[:, :, None] if one_channel else result
        return self._resize_by_torch(img, interp)

    def _resize_by_torch(self, img: np.ndarray, interp: int) -> np.ndarray:
        if interp not in _TORCH_MODES:
            raise ValueError(f"images of type {img.dtype} cannot be resized with filter {interp}")
        # torch needs contiguous, writable arrays, which Pillow's are not.
        with_channels = np.require(img if img.ndim == 3 else img[:, :, None], requirements="CW")
        # With its own dimension in front this is a channels_last tensor, for which torch has a
        # kernel 3 times as fast as for planes; equal to Pillow except for single levels.
        batch = torch.from_numpy(with_channels)[None].permute(0, 3, 1, 2)  # (1, C, H, W)
        resized = F.interpolate(
            batch,
            size=(self.new_h, self.new_w),
            mode=_TORCH_MODES[interp],
            align_corners=False,
            antialias=img.dtype == np.uint8,
        )
        result = resized[0].permute(1, 2, 0).numpy()
        return result if img.ndim == 3 else result[:, :, 0]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale (N, 2) points (x, y) in place, and return them."""
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W) labels of any type -> (new_h, new_w) labels of the nearest pixels."""
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def inverse(self) -> Transform:
        """Return the transform that resizes back."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


def _nearest_indices(size: int, new_size: int) -> np.ndarray:
    """Return the (new_size,) index of the pixel under the center of each new pixel."""
    steps = np.full(new_size, size / new_size)
    steps[0] /= 2
    # Added up one by one, as in Pillow, so that ties between two pixels are decided the same way.
    return steps.cumsum().astype(np.intp).clip(max=size - 1)


class RotationTransform(Transform):
    """Counter-clockwise rotation of an image."""

    def __init__(self, h, w, angle, expand=True, center=None, interp=None):
        """
        Args:
            h, w: size of the image, in pixels.
            angle: degrees, counter-clockwise.
            expand: make the result large enough for the whole image; otherwise it keeps its size
                and loses its corners.
            center: (x, y) in pixels to rotate about; None is the middle. Has no effect with
                `expand`.
            interp: cv2's interpolation flag; None is linear.
        """
        super().__init__()
        image_center = np.array((w / 2, h / 2))
        if center is None:
            center = image_center
        if interp is None:
            interp = cv2.INTER_LINEAR
        radians = np.deg2rad(angle)
        abs_cos, abs_sin = abs(np.cos(radians)), abs(np.sin(radians))
        if expand:
            bound_w = int(np.rint(h * abs_sin + w * abs_cos))
            bound_h = int(np.rint(h * abs_cos + w * abs_sin))
        else:
            bound_w, bound_h = w, h
        self._set_attributes(locals())
        self.rm_coords = self.create_rotation_matrix()
        # cv2 counts from the middle of the first pixel, coordinates from its corner.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(h, w) or (h, w, C) -> (bound_h, bound_w, ...); pixels outside of the image are 0."""
        if len(img) == 0 or self.angle % 360 == 0:
            return img
        assert img.shape[:2] == (self.h, self.w), (
            f"RotationTransform is for {self.h} x {self.w} pixels, but the image has "
            f"{img.shape[:2]}"
        )
        interp = self.interp if interp is None else interp
        return cv2.warpAffine(img, self.rm_image, (self.bound_w, self.bound_h), flags=interp)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) points (x, y) -> (N, 2)."""
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self.angle % 360 == 0:
            return coords
        return coords @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(h, w) labels of any type -> labels of the nearest pixels, 0 outside."""
        if segmentation.dtype in _WARPABLE:
            return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)
        rotated = self.apply_image(segmentation.astype(np.float64), interp=cv2.INTER_NEAREST)
        return rotated.astype(segmentation.dtype)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Return the (2, 3) affine matrix of the rotation, for coordinates shifted by `offset`."""
        center = (self.center[0] + offset, self.center[1] + offset)
        matrix = cv2.getRotationMatrix2D(tuple(map(float, center)), self.angle, 1)
        if self.expand:
            # The middle of the image moves into the middle of the result.
            middle = matrix[:, :2] @ (self.image_center + offset) + matrix[:, 2]
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - middle
        return matrix

    def inverse(self) -> Transform:
        """Return the transform that rotates back and crops the margins; needs `expand`."""
        if not self.expand:
            raise NotImplementedError(
                "a rotation with expand=False cannot be inverted, since it loses the corners"
            )
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        crop = CropTransform(
            (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2, self.w, self.h
        )
        return TransformList([back, crop])


class ColorTransform(Transform):
    """Change of colors by a function of the image; coordinates and labels do not change."""

    def __init__(self, op: Callable[[np.ndarray], np.ndarray]):
        """op: takes and returns an (H, W, C) image."""
        if not callable(op):
            raise ValueError(f"ColorTransform needs a function of an image, not {op!r}")
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Return the image after `op`."""
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return the points unchanged."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return the labels unchanged."""
        return segmentation

    def inverse(self) -> Transform:
        """Return a no-op: there is no geometry to undo."""
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """Change of colors by a function of a Pillow image, such as those of PIL.ImageOps."""

    def __init__(self, op: Callable[[Image.Image], Image.Image]):
        """op: takes and returns a Pillow image."""
        super().__init__(op)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 3) or (H, W) uint8 -> the same after `op`."""
        return np.asarray(super().apply_image(Image.fromarray(np.ascontiguousarray(img))))


# Rotated boxes are (N, 5): cx, cy, w, h in pixels, and the angle in degrees counter-clockwise.
# Like fvcore's transforms, these functions change the array and return it.


def is_mirrored(transform: Transform) -> bool:
    """Return whether left and right are swapped, by an odd number of horizontal flips."""
    parts = transform.transforms if isinstance(transform, TransformList) else [transform]
    return sum(isinstance(part, HFlipTransform) for part in parts) % 2 == 1


def HFlip_rotated_box(transform: HFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror (N, 5) rotated boxes from left to right."""
    rotated_boxes[:, 0] = transform.width - rotated_boxes[:, 0]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def VFlip_rotated_box(transform: VFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror (N, 5) rotated boxes from top to bottom."""
    rotated_boxes[:, 1] = transform.height - rotated_boxes[:, 1]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def Resize_rotated_box(transform: ResizeTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Scale (N, 5) rotated boxes.

    With unequal factors, a rectangle becomes a parallelogram. The result is the rectangle with its
    side lengths and the angle of the side along the height.
    """
    scale_x, scale_y = transform.new_w / transform.w, transform.new_h / transform.h
    radians = np.deg2rad(rotated_boxes[:, 4])
    cos, sin = np.cos(radians), np.sin(radians)
    rotated_boxes[:, 0] *= scale_x
    rotated_boxes[:, 1] *= scale_y
    rotated_boxes[:, 2] *= np.hypot(scale_x * cos, scale_y * sin)
    rotated_boxes[:, 3] *= np.hypot(scale_x * sin, scale_y * cos)
    rotated_boxes[:, 4] = np.rad2deg(np.arctan2(scale_x * sin, scale_y * cos))
    return rotated_boxes


def shift_rotated_box(transform: Transform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Move the centers of (N, 5) rotated boxes as `transform` moves points."""
    rotated_boxes[:, :2] = transform.apply_coords(rotated_boxes[:, :2])
    return rotated_boxes


HFlipTransform.register_type("rotated_box", HFlip_rotated_box)
VFlipTransform.register_type("rotated_box", VFlip_rotated_box)
ResizeTransform.register_type("rotated_box", Resize_rotated_box)
for _shift in (BlendTransform, ColorTransform, CropTransform, NoOpTransform, PadTransform):
    _shift.register_type("rotated_box", shift_rotated_box)
