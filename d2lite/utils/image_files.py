"""Opening image files that nobody has vouched for."""

import functools
import os
from contextlib import AbstractContextManager
from typing import IO

from PIL import Image

from d2lite.utils.errors import file_errors

MAX_BYTES = 2**30
"""Of an image file. Pillow's `Image.MAX_IMAGE_PIXELS` is the limit of the pixels."""


class ImageReadError(OSError):
    """A file that is there but does not hold a readable image."""


@functools.cache
def raster_formats() -> tuple[str, ...]:
    """Return the formats that files are decoded as, by Pillow's names.

    Pillow knows some more, and tells a format by the content alone: a file called photo.jpg could
    be PostScript, for which it starts another program, or a video, or a file that names others.
    """
    Image.init()
    wanted = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "MPO", "AVIF", "TGA")
    return tuple(name for name in wanted if name in Image.OPEN)


def image_errors(name: str) -> AbstractContextManager[None]:
    """Raise what goes wrong within, where an image is decoded, as an ImageReadError of this file.

    Each decoder has its own answers to damaged files.
    """
    return file_errors(ImageReadError, name, "the image does not decode")


def open_image(file: IO[bytes], name: str) -> Image.Image:
    """Return a Pillow image whose header is read and whose pixels are not yet.

    Args:
        file: open for reading, at its start.
        name: of the file, for messages.

    Raises:
        ImageReadError: it has no header of `raster_formats`, or says that it has more pixels than
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
