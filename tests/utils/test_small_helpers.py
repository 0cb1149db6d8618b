"""The modules of a few lines each: serialize, errors, environment."""

import copy
import pickle

import pytest
import torch

from d2lite.utils import collect_env
from d2lite.utils.errors import ArgumentError
from d2lite.utils.serialize import PicklableWrapper

# --- serialize


def double(x):
    return 2 * x


def test_wrapped_function_is_called_and_pickled():
    wrapped = PicklableWrapper(PicklableWrapper(double))
    assert wrapped._obj is double
    assert wrapped.__name__ == "double"
    assert pickle.loads(pickle.dumps(wrapped))(3) == 6
    assert copy.deepcopy(wrapped)(3) == 6


def test_lambdas_and_closures_are_pickled():
    step = 1
    wrapped = PicklableWrapper(lambda x: x + step)
    assert pickle.loads(pickle.dumps(wrapped))(3) == 4


# --- errors


def test_argument_errors_are_caught_as_what_programs_expect():
    for kind in (AssertionError, ValueError, TypeError):
        with pytest.raises(kind, match="as written"):
            raise ArgumentError("as written")


# --- environment


def test_environment_names_versions():
    text = collect_env.collect_env_info()
    assert torch.__version__ in text and "d2lite" in text and "torchvision" in text


def test_environment_is_printed(capsys):
    collect_env.main()
    assert "PyTorch" in capsys.readouterr().out
