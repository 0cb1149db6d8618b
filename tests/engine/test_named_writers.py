"""Writers that the config names."""

import sys

import pytest

from d2lite.engine.named_writers import build_named_writers
from tests.engine.toy_run import toy_cfg


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_tells_how_to_install_it(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=rf"WRITERS with '{name}' needs .*pip install 'd2lite\[{name}\]'"
    ):
        build_named_writers(toy_cfg(tmp_path, WRITERS=(name,)))


def test_an_unknown_writer_is_named_with_the_nearest_one(tmp_path):
    with pytest.raises(ValueError, match=r"WRITERS has 'mlfow'.* Did you mean 'mlflow'"):
        build_named_writers(toy_cfg(tmp_path, WRITERS=("csv", "mlfow")))
