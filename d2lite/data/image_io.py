"""Images from files, and their color formats."""

import io
import logging
import mmap
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_jpeg

from d2lite.data.image_schemes import find_image_reader
from d2lite.utils.file_io import PathManager
from d2lite.utils.image_files import MAX_BYTES, ImageReadError, image_errors, open_image

logger = logging.getLogger(__name__)

YUV_FORMAT = "YUV-BT.601"
# https://en.wikipedia.org/wiki/YUV#SDTV_with_BT.601, for values in [0, 1].
_RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])

_MAX_16_BIT = 2**16 - 1
_8_BIT_FORMATS = ("RGB", "BGR", "L", YUV_FORMAT)
# One byte shared by worker processes, so that the warning is logged once.
_WARNED = mmap.mmap(-1, 1)

_EXIF_ORIENTATION = 0x0112
# Function that turns an array upright, by EXIF orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


class SizeMismatchError(ValueError):
    """Error for an image whose size differs from that in its dataset."""


def read_image(
    file_name: str,
    format: str | None = None,
    max_value_16_bit: int | None = None,
    expected: dict | None = None,
) -> np.ndarray:
    """Read an image and turn it upright, as its EXIF orientation says.

    Args:
        file_name: path or URL of a file, or `SCHEME://...` of a registered image scheme.
        format: "RGB", "BGR", "L", "YUV-BT.601", or another mode of Pillow; None keeps the file's.
        max_value_16_bit: value of a 16-bit file that becomes 255 in 8-bit formats, such as 4095 for
            12-bit content. None: 65535, and no scaling for "L", since label maps contain class
            numbers.
        expected: a dataset dict; its "height" and "width" are compared with those of the file
            before the pixels are decoded.
    Returns:
        (H, W, C) uint8 in [0, 255]; (H, W, 1) for "L"; float32 for YUV.
    Raises:
        FileNotFoundError: the file does not exist.
        ImageReadError: it does not decode, or its format is not one of `raster_formats`.
        SizeMismatchError: its size is not the expected one.
    """
    draw = find_image_reader(file_name)
    if draw is not None:
        return convert_PIL_to_numpy(Image.fromarray(draw(file_name)), format)
    content = _read_file(file_name)
    image = open_image(io.BytesIO(content), file_name)
    # Accept both orientations: Pillow would have to decode a PNG to find the right one.
    if expected is not None and not _is_turned(expected, *image.size):
        compare_size(expected, *image.size[::-1])
    with image_errors(file_name):
        if format in ("RGB", "BGR") and image.format == "JPEG" and image.mode == "RGB":
            return _decode_jpeg(content, image, format)
        upright = ImageOps.exif_transpose(image)
        # Of a color PNG with 16 bits per channel (see its header), Pillow returns the upper 8 bits.
        is_16_bit_png = content.startswith(b"\x89PNG\r\n\x1a\n") and content[24:25] == b"\x10"
        if format in _8_BIT_FORMATS and is_16_bit_png and upright.mode in ("RGB", "RGBA"):
            upright = _decode_16_bit_png(content, upright, max_value_16_bit or _MAX_16_BIT)
        elif max_value_16_bit is not None and format in _8_BIT_FORMATS:
            upright = _to_8_bits(upright, max_value_16_bit)
        return convert_PIL_to_numpy(upright, format)


def _read_file(file_name: str) -> bytes:
    try:
        with PathManager.open(file_name, "rb") as file:
            # Limited by the file size, since read(n) allocates n bytes.
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            return file.read(min(size, MAX_BYTES + 1))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{file_name}: no such image file; is the image folder of the dataset right?"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        raise ImageReadError(f"{file_name!r:.300}: cannot be read: {error}") from error


def _decode_jpeg(content: bytes, header: Image.Image, format: str) -> np.ndarray:
    """Return the bytes of a color JPEG, whose header is open, as (H, W, 3) in "RGB" or "BGR".

    torchvision's decoder returns the same pixels as Pillow's and is faster. Like Pillow, but unlike
    OpenCV, it rejects truncated files.
    """
    try:
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        rgb = decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    except RuntimeError:
        # Pillow decides about unusual files, and has a better message.
        return convert_PIL_to_numpy(ImageOps.exif_transpose(header), format)
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) if format == "BGR" else rgb
    turn = _UPRIGHT.get(header.getexif().get(_EXIF_ORIENTATION))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def read_image_size(file_name: str) -> tuple[int, int]:
    """Return the (height, width) of an upright image, from the header of its file if it has one.

    Raises the same errors as `read_image`.
    """
    draw = find_image_reader(file_name)
    if draw is not None:
        return draw(file_name).shape[:2]
    try:
        with image_errors(file_name), PathManager.open(file_name, "rb") as file:
            image = open_image(file, file_name)
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            width, height = image.size
    except ImageReadError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise FileNotFoundError(f"{file_name}: no such image file") from None
        raise
    # Orientations 5 to 8 swap width and height.
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _is_turned(expected: dict, width: int, height: int) -> bool:
    """Return whether the sides match those of a dataset dict, in either order."""
    return {height, width} <= {expected.get("height", height), expected.get("width", width)}


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Return the pixels of a Pillow image in a format; see `read_image`."""
    if format is not None:
        mode = "RGB" if format in ("BGR", YUV_FORMAT) else format
        if mode == "RGB":
            image = _to_8_bits(image, _MAX_16_BIT)
        if image.mode != mode:
            image = image.convert(mode)
    pixels = np.asarray(image)
    if format == "L":
        return pixels[:, :, None]
    if format == "BGR":
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if format == YUV_FORMAT:
        return ((pixels / 255.0) @ _RGB_TO_YUV.T).astype(np.float32)
    return pixels


def read_labels(file_name: str, expected: dict | None = None) -> np.ndarray:
    """Read a label image: one number per pixel, for training and evaluation.

    Images with a palette give its indices, not the gray values of its colors; 16 bits are kept;
    1-bit images give 0 and 1.

    Args:
        file_name: path or URL of a file, or `SCHEME://...` of a registered image scheme.
        expected: dict with the "height" and "width" of its image, which are compared with those of
            the file before the pixels are decoded.
    Returns:
        (H, W) uint8 if the numbers fit, otherwise int32.
    Raises:
        FileNotFoundError: the file does not exist.
        ImageReadError: it does not decode, or has colors instead of numbers.
        SizeMismatchError: its size is not the expected one.
    """
    draw = find_image_reader(file_name)
    if draw is not None:
        labels = np.asarray(draw(file_name))
    else:
        image = open_image(io.BytesIO(_read_file(file_name)), file_name)
        if expected is not None and not _is_turned(expected, *image.size):
            check_label_size(file_name, image.size[::-1], (expected["height"], expected["width"]))
        with image_errors(file_name):
            labels = np.asarray(ImageOps.exif_transpose(image))
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[:, :, 0]
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise ImageReadError(
            f"{file_name}: labels must be one whole number for each pixel, found {labels.dtype} of "
            f"shape {labels.shape}; save them as an image of one channel or with a palette"
        )
    is_small = labels.min(initial=0) >= 0 and labels.max(initial=0) <= np.iinfo(np.uint8).max
    return labels.astype(np.uint8 if is_small else np.int32)


def _to_8_bits(image: Image.Image, max_value: int) -> Image.Image:
    """Scale a 16-bit gray image so that `max_value` becomes 255; return any other unchanged.

    A 32-bit image counts as 16-bit if its maximum is above 255 and below 65536. Floating-point
    values are taken to be in [0, 1] if none is above 1. Pillow's own conversion clips values to 0
    and 255, which gives a white or a black picture.
    """
    if image.mode == "F":
        pixels = np.asarray(image)
        if not np.isfinite(pixels).all():
            raise ValueError("it has values that are not finite")
        greatest = pixels.max(initial=0)
        if 0 < greatest <= 1:
            return Image.fromarray((pixels.clip(min=0) * 255).round().astype(np.uint8))
        if 255 < greatest < 2**16:
            return Image.fromarray(scale_16_bits(pixels.clip(min=0), max_value))
        return image
    pixels = np.asarray(image) if image.mode.startswith("I") else None
    # Pillow calls a PNG of 16 bits "I;16" or, in older versions, "I", as it does 32 bits.
    if pixels is None or (image.mode == "I" and not 255 < pixels.max(initial=0) < 2**16):
        return image
    return Image.fromarray(scale_16_bits(pixels, max_value))


def _decode_16_bit_png(content: bytes, decoded: Image.Image, max_value: int) -> Image.Image:
    """Return a 16-bit color PNG scaled by `max_value`; Pillow returns only the upper 8 bits.

    Args:
        decoded: Pillow's image; returned unchanged if OpenCV does not decode 16 bits.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != decoded.size[::-1]:
        return decoded
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    rgb = pixels[:, :, 2::-1] if pixels.shape[2] > 2 else pixels[:, :, :1].repeat(3, axis=2)
    return Image.fromarray(np.ascontiguousarray(scale_16_bits(rgb, max_value)))


def scale_16_bits(pixels: np.ndarray, max_value: int) -> np.ndarray:
    """Scale values of up to 16 bits to uint8, with 255 for `max_value` and above.

    If all bits of `max_value` are set, the result is the upper 8 bits. Content that uses only a
    small part of the range is logged as a warning, once.
    """
    greatest = int(pixels.max(initial=0))
    if 0 < greatest <= max_value // 16 and not _WARNED[0]:
        _WARNED[0] = 1
        logger.warning(
            "A 16-bit image has values up to %d, of %d that INPUT.MAX_VALUE_16_BIT expects, so the "
            "model sees it nearly black. If others are like it, set INPUT.MAX_VALUE_16_BIT to the "
            "greatest value of the data: 255 for 8 bits, 4095 for 12",
            greatest,
            max_value,
        )
    return (pixels.astype(np.uint32) * 256 // (max_value + 1)).clip(max=255).astype(np.uint8)


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """(H, W, C) in a format of `read_image` -> (H, W, 3) uint8 RGB."""
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[:, :, [2, 1, 0]]
    if format == YUV_FORMAT:
        return ((image @ _YUV_TO_RGB.T) * 255.0).astype(np.uint8)
    if format == "L":
        return np.repeat(image.reshape(*image.shape[:2], 1).astype(np.uint8), 3, axis=2)
    mode = format if image.ndim == 3 else "L"
    return np.asarray(Image.fromarray(image, mode=mode).convert("RGB"))


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Compare an (H, W, ...) image with "height" and "width" of its dict; add them if missing.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    compare_size(dataset_dict, height, width)
    dataset_dict.setdefault("height", height)
    dataset_dict.setdefault("width", width)


def compare_size(dataset_dict: dict, height: int, width: int) -> None:
    """Compare the size of an image with "height" and "width" of its dict, if present.

    Raises:
        SizeMismatchError: they differ.
    """
    expected = (dataset_dict.get("height", height), dataset_dict.get("width", width))
    if expected != (height, width):
        raise SizeMismatchError(
            f"{dataset_dict.get('file_name', 'image')}: the image is {height} x {width} "
            f"(height x width), but its dataset says {expected[0]} x {expected[1]}. "
            "Correct the size there, or the EXIF orientation of the file"
        )


def check_label_size(
    file_name: str, label_size: tuple[int, int], image_size: tuple[int, int]
) -> None:
    """Compare the (height, width) of a label image with that of its image.

    Raises:
        SizeMismatchError: they differ.
    """
    if tuple(label_size) != tuple(image_size):
        raise SizeMismatchError(
            f"{file_name}: the label image is {label_size[0]} x {label_size[1]} (height x width), "
            f"but its image is {image_size[0]} x {image_size[1]}; each pixel needs a label"
        )
