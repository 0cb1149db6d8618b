"""The device if none is set."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.config.device import best_device


@pytest.mark.parametrize(
    "cuda, mps, expected", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_device_is_the_best_present(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == expected
    assert expected == get_cfg().MODEL.DEVICE
