import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for downloads."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
