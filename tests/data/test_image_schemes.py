"""Images that are no files: found by scheme, and opened like files."""

import numpy as np
import pytest
from PIL import Image

from d2lite.data import image_schemes
from d2lite.data.image_schemes import find_image_reader, register_image_scheme
from d2lite.utils.file_io import PathManager


@pytest.fixture(autouse=True)
def restore_schemes():
    before = dict(image_schemes._READERS)
    yield
    image_schemes._READERS.clear()
    image_schemes._READERS.update(before)


def test_names_find_the_reader_of_their_scheme():
    def read(name):
        return np.zeros((2, 3, 3), np.uint8)

    register_image_scheme("mine", read)
    register_image_scheme("mine", read)  # the same again does no harm
    assert find_image_reader("mine://1") is read
    assert find_image_reader("mine/1.jpg") is None
    assert find_image_reader("https://host/1.jpg") is None


def test_a_taken_scheme_is_refused():
    with pytest.raises(ValueError, match="'shapes' is registered already"):
        register_image_scheme("shapes", lambda name: None)


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
def test_the_path_manager_opens_them_as_png_files(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    register_image_scheme("mine", lambda name: image)
    assert PathManager.isfile("mine://1")
    with PathManager.open("mine://1", "rb") as f:
        np.testing.assert_array_equal(np.asarray(Image.open(f)), image)
    with pytest.raises(ValueError, match="can only be opened with mode 'rb'"):
        PathManager.open("mine://1", "w")


def test_schemes_that_went_away_are_told():
    register_image_scheme("mine", lambda name: np.zeros((2, 2), np.uint8))
    del image_schemes._READERS["mine"]
    assert not PathManager.exists("mine://1")
    with pytest.raises(FileNotFoundError, match="no reader is registered for mine://"):
        PathManager.open("mine://1", "rb")
