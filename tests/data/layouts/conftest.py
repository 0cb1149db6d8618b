import pytest

from tests.data.layouts.tiny import labeled, thing


@pytest.fixture
def unsplit(tmp_path):
    """Twenty images: a cat in all, a dog in two, and a cow in one."""

    def things(number):
        rows = [thing(0)]
        rows += [thing(1)] if number in (3, 11) else []
        return rows + ([thing(2)] if number == 7 else [])

    files = [f"{i:02}.png" for i in range(20)]
    return labeled(tmp_path, things, {"all": files}, names=("cat", "dog", "cow"))
