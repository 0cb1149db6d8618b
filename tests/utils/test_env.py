import os
import random
from types import ModuleType

import numpy as np
import pytest
import torch

from d2lite.utils.env import (
    TORCH_VERSION,
    fixup_module_metadata,
    seed_all_rng,
    setup_custom_environment,
    setup_environment,
)


@pytest.fixture(autouse=True)
def same_hash_seed(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_same_seed_gives_the_same_numbers():
    seed_all_rng(3)
    first = draw()
    assert os.environ["PYTHONHASHSEED"] == "3"
    seed_all_rng(3)
    assert draw() == first
    seed_all_rng(4)
    assert draw() != first


def test_seed_beyond_32_bits_is_taken():
    seed_all_rng(2**40 + 1)
    assert 0 <= draw()[1] < 1


def test_no_seed_gives_different_numbers():
    seed_all_rng()
    first = draw()
    seed_all_rng()
    assert draw() != first


def test_torch_version_compares_by_number():
    assert TORCH_VERSION >= (2, 4)


@pytest.mark.parametrize("by_path", [True, False])
def test_module_of_the_user_is_run(tmp_path, monkeypatch, by_path):
    file = tmp_path / "my_settings.py"
    file.write_text("import os\ndef setup_environment():\n    os.environ['SET_UP'] = 'yes'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SET_UP", "no")
    setup_custom_environment(str(file) if by_path else "my_settings")
    assert os.environ["SET_UP"] == "yes"


def test_module_without_the_function_is_told(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(AttributeError, match=r"empty.py.*setup_environment\(\)"):
        setup_custom_environment(str(tmp_path / "empty.py"))


@pytest.mark.parametrize("variable", ["D2LITE_ENV_MODULE", "DETECTRON2_ENV_MODULE"])
def test_environment_is_set_up_once(tmp_path, monkeypatch, variable):
    file = tmp_path / "counting.py"
    file.write_text("import os\ndef setup_environment():\n    os.environ['COUNT'] += 'x'\n")
    monkeypatch.setenv("COUNT", "")
    monkeypatch.setenv(variable, str(file))
    setup_environment.cache_clear()
    setup_environment()
    setup_environment()
    assert os.environ["COUNT"] == "x"
    setup_environment.cache_clear()


def test_metadata_points_to_the_public_module():
    class Thing:
        def method(self):
            pass

    Thing.__module__ = Thing.method.__module__ = "mypackage.hidden.place"
    foreign = ModuleType("foreign")
    fixup_module_metadata("mypackage", {"Thing": Thing, "foreign": foreign, "_private": draw})
    assert Thing.__module__ == Thing.method.__module__ == "mypackage"
    assert Thing.__qualname__ == "Thing"
    assert draw.__module__ == __name__
