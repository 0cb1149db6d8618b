"""Image files are opened as one of a few raster formats."""

import io

import pytest
from PIL import Image

from d2lite.utils import image_files
from d2lite.utils.image_files import ImageReadError, open_image


def encoded(kind: str) -> io.BytesIO:
    content = io.BytesIO()
    Image.new("RGB", (6, 4)).save(content, kind)
    return content


def test_header_is_read_from_the_start():
    assert open_image(encoded("PNG"), "a.png").size == (6, 4)  # after writing, it is at its end


def test_other_formats_are_refused_whatever_their_name():
    with pytest.raises(ImageReadError, match=r"a\.jpg: not an image of a known format \(JPEG, PNG"):
        open_image(encoded("PDF"), "a.jpg")


def test_huge_files_are_refused(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_BYTES", 10)
    with pytest.raises(ImageReadError, match=r"a\.png: .* has \d+ bytes; at most 10 are read"):
        open_image(encoded("PNG"), "a.png")
