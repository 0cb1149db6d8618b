"""Images come out upright, in the wanted format, and with Pillow's pixels."""

import io
import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from d2lite.data import image_io
from d2lite.data.detection_utils import (
    ImageReadError,
    SizeMismatchError,
    check_image_size,
    convert_image_to_rgb,
    read_image,
)
from d2lite.data.image_io import convert_PIL_to_numpy, read_image_size, read_labels
from d2lite.data.image_schemes import register_image_scheme
from tests.golden import load_case

FORMATS = load_case("dataset.image_formats")


def _photo(height=48, width=64) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.BICUBIC)


def _save(path, orientation=None, image=None, **options) -> str:
    image = image or _photo()
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize("format", ["RGB", "BGR", "L", "YUV-BT.601"])
def test_golden_formats(tmp_path, format):
    path = _save(tmp_path / "a.png", image=Image.fromarray(FORMATS.inputs["image"]))
    read = read_image(path, format)
    FORMATS.check(f"read_{format}", read)
    FORMATS.check(f"back_{format}", convert_image_to_rgb(read, format))


def test_golden_orientation(tmp_path):
    path = _save(tmp_path / "a.jpg", orientation=6, image=_photo(10, 14))
    assert list(read_image(path, "BGR").shape) == FORMATS.outputs["exif6_shape"]


@pytest.mark.parametrize("format", ["RGB", "BGR"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize(
    "options",
    [{"quality": 85}, {"quality": 95, "subsampling": 0}, {"progressive": True, "subsampling": 1}],
    ids=str,
)
def test_jpegs_have_pillows_pixels(tmp_path, orientation, options, format):
    path = _save(tmp_path / "a.jpg", orientation=orientation, **options)
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    got = read_image(path, format)
    np.testing.assert_array_equal(got if format == "RGB" else got[:, :, ::-1], want)
    assert got.flags.c_contiguous
    assert read_image_size(path) == want.shape[:2]


@pytest.mark.parametrize(
    "mode, suffix", [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("1", "png")]
)
def test_other_color_modes_become_rgb(tmp_path, mode, suffix):
    path = _save(tmp_path / f"a.{suffix}", image=_photo().convert(mode))
    want = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, "RGB"), want)
    assert read_image(path, "L").shape == (48, 64, 1)


def test_no_format_keeps_the_files(tmp_path):
    assert read_image(_save(tmp_path / "a.png", image=_photo().convert("L"))).shape == (48, 64)
    assert read_image(_save(tmp_path / "b.jpg")).shape == (48, 64, 3)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg: no such image file"):
        read_image(str(tmp_path / "nowhere.jpg"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg"):
        read_image_size(str(tmp_path / "nowhere.jpg"))


@pytest.mark.parametrize("format", ["BGR", "L", None])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_damaged_files_are_one_error_with_the_path(tmp_path, suffix, share, format):
    content = io.BytesIO()
    _photo(200, 200).save(content, "JPEG" if suffix == "jpg" else "PNG")
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content.getvalue()[: int(share * content.tell())])
    with pytest.raises(ImageReadError, match=f"damaged[.]{suffix}"):
        read_image(str(path), format)


def test_text_is_no_image(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("no image")
    with pytest.raises(ImageReadError, match=r"notes.jpg: not an image"):
        read_image(str(path), "BGR")
    with pytest.raises(ImageReadError, match=r"notes.jpg"):
        read_image_size(str(path))


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageReadError, match="cannot be read"):
        read_image(str(tmp_path))


def _draw(file_name: str) -> np.ndarray:
    value = int(file_name.rpartition("/")[2])
    if "labels" in file_name:
        return np.full((4, 6), value, dtype=np.uint8)
    return np.full((4, 6, 3), (value, 0, 0), dtype=np.uint8)


def test_drawn_images_are_read_like_files():
    register_image_scheme("test-io", _draw)
    assert read_image("test-io://7", "RGB")[0, 0].tolist() == [7, 0, 0]
    assert read_image("test-io://7", "BGR")[0, 0].tolist() == [0, 0, 7]
    assert np.unique(read_image("test-io://labels/9", "L")).tolist() == [9]
    assert read_image_size("test-io://7") == (4, 6)


def test_sizes_are_compared_or_filled_in():
    image = np.zeros((4, 6, 3))
    found = {}
    check_image_size(found, image)
    assert found == {"height": 4, "width": 6}
    with pytest.raises(SizeMismatchError, match=r"a.jpg: the image is 4 x 6 .* 6 x 4"):
        check_image_size({"file_name": "a.jpg", "height": 6, "width": 4}, image)


@pytest.mark.parametrize("format", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_grey_images_of_16_bits_keep_their_shades(format, dtype):
    shades = np.array([[0, 255, 256], [30000, 51400, 65535]])
    got = convert_PIL_to_numpy(Image.fromarray(shades.astype(dtype)), format)
    assert got.dtype == np.uint8
    assert got[..., 0].tolist() == [[0, 0, 1], [117, 200, 255]]
    assert (got == got[..., :1]).all()


def test_label_maps_of_16_bits_keep_their_numbers(tmp_path):
    labels = np.array([[0, 7, 255]], dtype=np.uint16)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert read_image(str(tmp_path / "labels.png"), "L")[..., 0].tolist() == [[0, 7, 255]]


@pytest.fixture
def not_yet_warned():
    image_io._WARNED[0] = 0
    yield
    image_io._WARNED[0] = 0


def write_16_bits(path, values, channels):
    """A PNG of one row with these values in each of its channels."""
    row = np.array([values], dtype=np.uint16)
    cv2.imwrite(str(path), row if channels == 1 else np.repeat(row[:, :, None], channels, axis=2))
    return str(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("format", ["L", "RGB", "BGR"])
@pytest.mark.parametrize(
    "max_value, values, expected",
    [
        (4095, [0, 2048, 4095, 5000], [0, 128, 255, 255]),  # 12 bits: the upper 8 are v // 16
        (255, [0, 7, 255, 256], [0, 7, 255, 255]),  # 8 bits as they are
        (65535, [0, 256, 32768, 65535], [0, 1, 128, 255]),
        (999, [0, 500, 999, 1000], [0, 128, 255, 255]),  # 500 * 256 / 1000
    ],
)
def test_16_bit_files_are_scaled_by_what_fills_them(
    tmp_path, max_value, values, expected, format, channels
):
    path = write_16_bits(tmp_path / "deep.png", values, channels)
    if channels == 4:  # opaque alpha, of which no format has anything
        image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        image[..., 3] = 65535
        cv2.imwrite(path, image)
    got = read_image(path, format, max_value)
    assert got.dtype == np.uint8
    assert got.shape == (1, 4, 1 if format == "L" else 3)
    assert [pixel.tolist() for pixel in got[0]] == [[v] * got.shape[2] for v in expected]


def test_content_that_does_not_fill_its_range_is_told_once(tmp_path, not_yet_warned, caplog):
    full = write_16_bits(tmp_path / "full.png", [0, 60000], 1)
    twelve = write_16_bits(tmp_path / "twelve.png", [0, 4095], 1)
    read_image(full, "RGB")
    assert not caplog.records
    for _ in range(2):
        read_image(twelve, "RGB")
    (record,) = caplog.records
    told = "values up to 4095, of 65535 that INPUT.MAX_VALUE_16_BIT expects"
    assert told in record.getMessage()


def test_worker_processes_share_that_warning(tmp_path, not_yet_warned):
    twelve = write_16_bits(tmp_path / "twelve.png", [0, 4095], 1)
    if pid := os.fork():
        os.waitpid(pid, 0)
        assert image_io._WARNED[0] == 1
    else:
        read_image(twelve, "RGB")
        os._exit(0)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("read", [read_image, read_image_size])
def test_postscript_starts_no_other_program(tmp_path, monkeypatch, read):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("run"))
    path = tmp_path / "a.jpg"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(ImageReadError, match=r"a\.jpg: not an image of a known format \(JPEG, PNG"):
        read(str(path))


@pytest.mark.parametrize("read", [read_image, read_image_size])
@pytest.mark.parametrize("kind", ["pipe", "device", "link to itself"])
def test_what_is_not_a_file_is_not_waited_for(tmp_path, read, kind):
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(ImageReadError, match=r"a\.png"):
        read(str(path))


def test_size_is_compared_before_pixels_are_decoded(tmp_path, monkeypatch):
    path = _save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(SizeMismatchError, match=r"b\.png: the image is 48 x 64"):
        read_image(path, "RGB", expected={"file_name": "b.png", "height": 48, "width": 63})


def test_more_pixels_than_pillow_decodes_are_an_error_of_the_file(tmp_path):
    header = io.BytesIO()
    Image.new("1", (60_000, 1)).save(header, "PNG")
    content = bytearray(header.getvalue())
    content[20:24] = (60_000).to_bytes(4, "big")  # the height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, read_image_size):
        with pytest.raises(ImageReadError, match=r"a\.png: Image size .*MAX_IMAGE_PIXELS"):
            read(str(tmp_path / "a.png"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "gif", "bmp", "ppm", "tga"])
def test_damaged_files_are_told_as_such(tmp_path, suffix):
    whole = bytearray(Path(_save(tmp_path / f"whole.{suffix}")).read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    for _ in range(40):
        content = whole.copy()
        for place in random.integers(0, min(len(content), 300), 3):
            content[place] = random.integers(256)
        path.write_bytes(content[: random.integers(1, len(content))])
        for read in (read_image, read_image_size):
            try:
                read(str(path))
            except ImageReadError as error:
                assert str(path) in str(error)


def _palette(labels) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([200, 0, 0, 0, 150, 0, 0, 0, 100])
    return image


@pytest.mark.parametrize(
    "save_as, numbers",
    [
        (lambda a: Image.fromarray(a.astype(np.uint8)), [0, 1, 2]),
        (_palette, [0, 1, 2]),  # not the gray of the colors
        (lambda a: Image.fromarray(a.astype(np.uint16) * 300), [0, 300, 600]),
        (lambda a: Image.fromarray(a.astype(np.int32) * 70000), [0, 70000, 140000]),
        (lambda a: Image.fromarray(a > 0), [0, 1, 1]),
    ],
    ids=["8 bits", "palette", "16 bits", "32 bits", "1 bit"],
)
def test_labels_are_the_numbers_in_the_file(tmp_path, save_as, numbers):
    path = tmp_path / "labels.tif"
    save_as(np.array([[0, 1, 2]])).save(path)
    labels = read_labels(str(path))
    assert labels.tolist() == [numbers]
    assert labels.dtype == (np.uint8 if max(numbers) < 256 else np.int32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_colors_are_no_labels(tmp_path, mode):
    path = tmp_path / "labels.tif"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(ImageReadError, match=r"labels\.tif: labels must be one whole number"):
        read_labels(str(path))


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # from 0 to 1
        ([0.0, 128.0, 255.0], [0, 128, 255]),
        ([0.0, 32768.0, 65535.0], [0, 128, 255]),  # 16 bits in a float
    ],
)
def test_floating_point_images(tmp_path, values, expected):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([values], np.float32)).save(path)
    assert read_image(str(path), "RGB")[0, :, 0].tolist() == expected
    assert read_image(str(path), "L", max_value_16_bit=65535)[0, :, 0].tolist() == expected


def test_an_image_that_is_not_finite_is_named(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[1, np.nan]], np.float32)).save(path)
    with pytest.raises(ImageReadError, match=r"a\.tif: .*not finite"):
        read_image(str(path), "BGR")
