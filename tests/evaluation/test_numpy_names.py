"""Removed names of numpy, in one module and for a while."""

from types import SimpleNamespace

import numpy as np
import pytest

from d2lite.evaluation.numpy_names import removed_numpy_names


def test_removed_names_are_back_within_the_block():
    module = SimpleNamespace(np=np)
    with removed_numpy_names(module):
        assert module.np.zeros(2, dtype=module.np.float).dtype == np.float64
        assert module.np.in1d([1, 2], [2]).tolist() == [False, True]
        assert module.np.zeros is np.zeros  # the others are numpy's
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.np.no_such_name
    assert module.np is np


def test_numpy_comes_back_after_an_error():
    module = SimpleNamespace(np=np)
    with pytest.raises(ValueError, match="within"), removed_numpy_names(module):
        raise ValueError("within")
    assert module.np is np
