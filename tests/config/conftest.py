"""The lazy config that tests of its overrides and its text share."""

import pytest
from omegaconf import DictConfig
from torch import nn

from d2lite.config import LazyCall as L


@pytest.fixture
def cfg():
    """Return a lazy config with nested groups, a list of groups and an object to instantiate."""
    return DictConfig(
        {
            "train": {"steps": 10, "name": "a", "sizes": [1, 2]},
            "model": L(nn.Linear)(in_features=2, out_features=3),
            "stages": [{"width": 1}, {"width": 2}],
        },
        flags={"allow_objects": True},
    )
