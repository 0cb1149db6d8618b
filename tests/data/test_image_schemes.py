import numpy as np
import pytest

from d2lite.data import image_schemes
from d2lite.data.image_schemes import find_image_reader, register_image_scheme


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
