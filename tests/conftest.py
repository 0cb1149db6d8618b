"""Settings shared by all tests: a small, repeatable CPU."""

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
