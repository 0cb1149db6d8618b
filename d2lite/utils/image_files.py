"""Opening untrusted image files."""

import functools
import os
from contextlib import AbstractContextManager
from typing import IO

from PIL import Image

from d2lite.utils.errors import file_errors

MAX_BYTES = 2**30
"""Maximum size of an image file. Pillow's `Image.MAX_IMAGE_PIXELS` limits the pixels."""


class ImageReadError(OSError):
    """A file that exists but does not contain a readable image."""


@functools.cache
def raster_formats() -> tuple[str, ...]:
    """Return the supported formats, by Pillow's names.

    Pillow supports more, and detects the format from the content only: a file photo.jpg could be
    PostScript, for which it starts another program, or a video, or a file that refers to others.
    """
    Image.init()
    wanted = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "MPO", "AVIF", "TGA")
    return tuple(name for name in wanted if name in Image.OPEN)


def image_errors(name: str) -> AbstractContextManager[None]:
    """Convert errors in a block that decodes an image to an ImageReadError for this file.

    Each decoder raises different errors for damaged files.
    """
    return file_errors(ImageReadError, name, "the image does not decode")


def open_image(file: IO[bytes], name: str) -> Image.Image:
    """Return a Pillow image of which only the header has been read.

    Args:
        file: open for reading, at its start.
        name: of the file, for messages.

    Raises:
        ImageReadError: it has no header of `raster_formats`, or claims to have more pixels than
            Pillow decodes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise ImageReadError(
            f"{name}: the image file has {size} bytes; at most {MAX_BYTES} are read"
        )
    with image_errors(name):
        try:
            return Image.open(file, formats=raster_formats())
        except Image.UnidentifiedImageError:
            shown = ", ".join(raster_formats())
            raise ImageReadError(f"{name}: not an image of a known format ({shown})") from None
        except Image.DecompressionBombError as error:
            raise ImageReadError(
                f"{name}: {error}. If the size is right, set PIL.Image.MAX_IMAGE_PIXELS"
            ) from None
