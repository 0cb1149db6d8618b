"""Settings shared by all tests: a small, repeatable CPU."""

import os

# The tests run in several processes: a thread each, here and in the programs that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
