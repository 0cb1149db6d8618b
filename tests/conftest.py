import pytest

from d2lite.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def register():
    """A function that registers a dataset for the time of a test."""
    names = []

    def add(name: str, dicts, **metadata) -> str:
        DatasetCatalog.register(name, lambda: dicts)
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
